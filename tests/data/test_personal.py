from __future__ import annotations

import pytest

from lepton.data import find_personal_data, mask_personal_data


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("写信到 someone@example.com 谢谢", "写信到 [email] 谢谢"),
        ("电话13800001234打给我", "电话[phone]打给我"),
        ("call +44 20 7946 0018 today", "call [phone] today"),
        ("身份证11010519491231002X", "身份证[chinese id]"),
        ("card 4111 1111 1111 1111 declined", "card [bank card] declined"),
        ("from 192.168.0.1", "from [ip address]"),
    ],
)
def test_what_is_found(text: str, masked: str) -> None:
    assert mask_personal_data(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112",
        "身份证110105194912310021",
        "version 1.2.3.400",
        "订单号 66321，买了12345678901个",
        "",
    ],
)
def test_what_only_looks_like_it(text: str) -> None:
    assert find_personal_data(text) == []
