// What the search says, in place of Sphinx's own file, which lacks the number of pages found.
Documentation.addTranslations({
    locale: "ko",
    messages: {
        ", in ": ", 문서: ",
        "Hide Search Matches": "검색 일치 숨기기",
        "Preparing search...": "검색 준비 중…",
        "Search Results": "검색 결과",
        "Searching": "검색 중",
        "Search finished, found one page matching the search query.": [
            "페이지 ${resultCount}개를 찾았습니다."
        ],
        "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've selected enough categories.":
            "검색어와 일치하는 페이지가 없습니다. 철자를 확인하거나 더 짧은 낱말로 찾아보세요."
    },
    plural_expr: "0"
});
