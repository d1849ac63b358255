"""What tests of the pages share with those of the report."""

from tests.e2e.conftest import browser as browser
