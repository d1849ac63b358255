"""The search of the Korean pages."""

import re

from sphinx.search import SearchLanguage


class KoreanSearch(SearchLanguage):
    """Finds words whatever follows them: 특징 finds 특징을, too.

    Particles and endings are written onto a Korean word, and Sphinx looks for whole words where
    they are as short as most Korean ones. So each is known by its beginnings, too.
    """

    lang = "ko"
    language_name = "Korean"

    def split(self, input: str) -> list[str]:
        """Split a text into words, and add beginnings of Korean ones, of two syllables or more."""
        found = []
        for word in super().split(input):
            syllables = re.match(r"[가-힣]*", word)
            length = len(syllables[0]) if syllables else 0
            found += [word, *(word[:end] for end in range(2, length) if end < len(word))]
        return found
