from __future__ import annotations

import pytest

from engine.services import origins

#: None of them is read at all, whoever may be reached.
UNREAD = [
    # 127.0.0.1 as the C library, browsers and others read it.
    *("http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://127.1/"),
    *("http://127.0.1/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://127.0.0.01/"),
    *("http://0x7F.1/", "http://127.0.0.1./", "http://0/", "http://00000177.0.0.1/"),
    *(
        "http://①②⑦.⓪.⓪.①/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://127。0。0。1/",
        "http://127.0.0.0x1/",
    ),
    *("http://256.256.256.256/", "http://1.2.3/", "http://1.2.3.4.5/", "http://%31%32%37.0.0.1/"),
    # Hosts and ports that are none.
    *(
        "http://[::1",
        "http://[::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[v1.x]/",
        "http://::1/",
    ),
    *("http://exa mple.com/", "http://example.com:99999/", "http://example.com:0/", "http:///x"),
    *("http://example.com:80:90/", "http://example.com:+80/", "http://example.com:\uff18\uff10/"),
    *(
        "http://-example.com/",
        "http://example..com/",
        "http://.example.com/",
        "http://example.com./",
    ),
    *(
        "http://ex%61mple.com/",
        "http://bücher.example/",
        "http://*.example.com/",
        "http://a*b.example/",
    ),
    # Two hosts in one URL.
    *(
        "http://api.example.com@127.0.0.1/",
        "http://user:word@api.example.com/",
        "http://@127.0.0.1/",
    ),
    *("http://127.0.0.1#@api.example.com/", "http://127.0.0.1\\@api.example.com/"),
    *(
        "http://api.example.com\\.evil.example/",
        "http:/127.0.0.1/",
        "http:127.0.0.1/",
        "//127.0.0.1/",
    ),
    # Not HTTP.
    *("file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "ftp://example.com/", "dict://x:1/"),
    *(
        "ldap://example.com/",
        "javascript://example.com/%0aalert(1)",
        "data://text/plain,x",
        "ws://e.com",
    ),
    # More than a URL.
    *("http://example.com/\r\nX-Evil: 1", "http://example.com/\tx", "http://example.com/\x00", ""),
    *(
        "http://example.com/#here",
        " http://example.com/",
        "http://example.com/\u202e",
        "http://e\u00ad.x/",
    ),
    *("http://example.com/\x7f", "http://" + "a" * 300 + ".example/", "http://e.com/" + "x" * 9000),
]


@pytest.mark.parametrize("url", UNREAD)
def test_what_readers_differ_about_is_not_read(url: str) -> None:
    with pytest.raises(ValueError):
        origins.origin(url)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("HTTPS://API.Example.COM/x?y=http://z/", "https://api.example.com"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("http://example.com:443/", "http://example.com:443"),
        ("https://example.com:443/", "https://example.com"),
        ("http://[0:0:0:0:0:0:0:1]:81/", "http://[::1]:81"),
        ("http://192.168.1.1/ü", "http://192.168.1.1"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example"),
        ("http://my_service/", "http://my_service"),
        ("http://0x7f.example.com/", "http://0x7f.example.com"),
    ],
)
def test_a_url_is_read_in_one_way(url: str, read: str) -> None:
    assert str(origins.origin(url)) == read


@pytest.mark.parametrize(
    ("entry", "url", "covered"),
    [
        ("https://api.example.com", "https://api.example.com/x", True),
        ("https://api.example.com", "http://api.example.com/x", False),
        ("https://api.example.com", "https://api.example.com:8443/x", False),
        ("https://api.example.com", "https://api.example.com.evil.example/", False),
        ("https://*.example.com:8443", "https://a.b.example.com:8443/", True),
        ("https://*.example.com:8443", "https://example.com:8443/", False),
        ("https://*.example.com", "https://evilexample.com/", False),
        ("https://*", "https://anything.example/", True),
        ("https://*", "https://10.0.0.1/", False),
        ("https://*", "https://[2606:4700::1]/", False),
        ("http://[::1]", "http://[0::1]/", True),
    ],
)
def test_a_host_is_allowed_with_its_scheme_and_port(entry: str, url: str, covered: bool) -> None:
    assert origins.permitted(origins.origin(url), [origins.allowed(entry)]) is covered


@pytest.mark.parametrize(
    "entry", ["api.example.com", "https://e.com/x", "https://a.*.com", "ftp://e.com"]
)
def test_an_entry_is_scheme_host_and_port(entry: str) -> None:
    with pytest.raises(ValueError):
        origins.allowed(entry)
