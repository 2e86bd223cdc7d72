"""Normalized domains and URLs."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.records.web_urls import (
    domain_of,
    normalize_domain,
    normalize_url,
    url_number,
)


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Example.COM", "example.com"),
        (".example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--bcher-kva.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("ｅｘａｍｐｌｅ．com", "example.com"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("a" * 5_000, "a" * 640),
        ("\ud800.example", "xn--ib9b.example"),
        ("", ""),
    ],
)
def test_normalize_domain_is_lower_case_punycode(name: str, normal: str) -> None:
    assert normalize_domain(name) == normal


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Example.COM:443/Path/?q=A#f", "https://example.com/Path/?q=A"),
        ("https://example.com/a/", "https://example.com/a"),
        ("https://example.com", "https://example.com"),
        ("http://example.com:80/", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x"),
        ("https://User@Example.com/x", "https://User@example.com/x"),
        ("https://[::1]:8080/x", "https://[::1]:8080/x"),
        ("https://example.com:99999999/x", "https://example.com/x"),
        ("example.com/x/", "example.com/x"),
        ("https://[", "https://["),
        ("mailto:a@b.example", "mailto:a@b.example"),
    ],
)
def test_normalize_url_normalizes_scheme_host_and_port(url: str, normal: str) -> None:
    assert normalize_url(url) == normal
    assert normalize_url(normal) == normal


def test_domain_of_is_the_host_of_a_url() -> None:
    assert domain_of("https://BÜCHER.example:8443/x") == "xn--bcher-kva.example"
    assert domain_of("https://[") is None
    assert domain_of("no url") is None


def test_equal_addresses_have_one_number() -> None:
    number = url_number("https://example.com/a?b=c")
    for other in (
        "https://example.com/a?b=c#part",
        "https://EXAMPLE.com:443/a?b=c",
        "https://example.com./a?b=c",
        "https://example.com/a?b=c/",
    ):
        assert url_number(other) == number
    assert url_number("https://example.com/a?b=d") != number
    assert url_number("http://example.com/a?b=c") != number
    # Longer than what documents compare.
    long = "https://example.com/" + "x" * 600
    assert url_number(long + "a") != url_number(long + "b")


@given(st.text(alphabet="abAB.-/?:@%#=&_~\u00e9 ", max_size=12))
@example("=?/")
def test_number_is_that_of_the_normal_form(rest: str) -> None:
    url = "https://" + rest
    assert url_number(url) == url_number(normalize_url(url))
