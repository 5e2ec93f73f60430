"""Write customer_questions.csv: questions to a made-up shop, with the faults that real tables have.

    python examples/generate_customer_questions.py examples/customer_questions.csv

The same seed gives the same file. Patterns are in customer_questions.toml; the test set beside it
(customer_questions_test.csv) was written by hand before them, and nothing of it went into them.

On top of what the patterns give, questions get greetings and endings, slips of the keyboard and of
the input method, words of the other language, missing punctuation, traditional characters; and the
table gets exact and near-duplicates, missing questions and intents, one question under two intents,
HTML and URLs, full-width letters, personal data, texts of one character and far too long ones.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
ROWS_OF_WEIGHT_1 = 88
CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")

ZH_OPENINGS = (
    "你好，",
    "您好，",
    "请问",
    "亲，",
    "在吗，",
    "你好 ",
    "想问下，",
    "客服你好，",
    "麻烦问一下，",
)
ZH_ENDINGS = (
    "？",
    "?",
    "，谢谢",
    "。",
    "！",
    "~",
    "，急",
    "啊",
    "呢",
    "，麻烦了",
    "？？",
    "，在线等",
)
EN_OPENINGS = (
    "Hi, ",
    "Hello, ",
    "hey ",
    "Good morning, ",
    "Quick question: ",
    "Hi there! ",
    "Sorry, ",
)
EN_ENDINGS = ("?", ".", "!", " please", ", thanks", " thx", "??", " asap", "... ", ". Thank you.")
# What an input method offers for the same sounds.
ZH_SLIPS = {
    "账": "帐", "登录": "登陆", "的": "得", "在": "再", "快递": "快第", "发货": "发活",
    "退款": "退宽", "订单": "定单", "包裹": "包果", "怎么": "咋么", "什么": "什莫", "已经": "以经",
    "优惠": "优会", "尺码": "尺吗",
    "积分": "几分", "取消": "去消", "地址": "地止", "人工": "人公", "发票": "发飘",
}  # fmt: skip
MIXED = {
    "订单": "order", "包裹": "parcel", "退款": "refund", "发票": "invoice", "优惠券": "coupon",
    "地址": "address", "尺码": "size", "取消": "cancel", "积分": "points", "密码": "password",
    "会员": "VIP", "客服": "support", "运费": "shipping fee", "换货": "exchange", "退货": "return",
    "缺货": "out of stock", "保修": "warranty", "付款": "payment", "账号": "account",
    "礼物": "gift",
}  # fmt: skip
TRADITIONAL = str.maketrans(
    "么这个发货订单钱给们还时间请问谢怎样买卖换码现员账号丢没几点开门转电话",
    "麼這個發貨訂單錢給們還時間請問謝怎樣買賣換碼現員賬號丟沒幾點開門轉電話",
)
CHANNELS = ("app", "web", "email", "wechat", "phone")


@dataclass(frozen=True)
class Question:
    """A row of the table."""

    text: str
    intent: str
    chinese: bool


def main() -> None:
    """Write the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)  # noqa: S311
    questions = list(generate(rng))
    rng.shuffle(questions)
    with arguments.path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("id", "date", "channel", "customer", "question", "intent"))
        for number, question in enumerate(questions, 1):
            date = f"2026-{rng.randint(1, 10):02}-{rng.randint(1, 28):02}"
            customer = f"C{rng.randint(1, 900):04}"
            writer.writerow(
                (number, date, rng.choice(CHANNELS), customer, question.text, question.intent)
            )
    print(f"{len(questions):,} rows in {arguments.path}")


def generate(rng: random.Random) -> Iterator[Question]:
    """Every row, faults included, in no order."""
    grammar = tomllib.loads((HERE / "customer_questions.toml").read_text(encoding="utf-8"))
    slots: dict[str, list[str]] = grammar.pop("slots")
    clean = []
    for intent, patterns in grammar.items():
        for index in range(round(ROWS_OF_WEIGHT_1 * patterns["weight"])):
            chinese = rng.random() < 0.55
            choices = patterns["zh" if chinese else "en"]
            # Every pattern comes up, the first of them once more than the last.
            pattern = choices[index % len(choices)]
            clean.append(Question(fill(pattern, slots, rng), intent, chinese))
    spoken = [speak(question, rng) for question in clean]
    yield from spoken
    yield from faults(spoken, rng)


def fill(pattern: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    """A sentence of ``pattern``."""
    while CHOICE.search(pattern):
        pattern = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), pattern)
    text = SLOT.sub(lambda match: rng.choice(slots[match[1]]), pattern)
    return re.sub(r" +([,?.]|$)", r"\1", " ".join(text.split()))


def speak(question: Question, rng: random.Random) -> Question:
    """``question`` as somebody would type it."""
    text = question.text
    if question.chinese:
        if rng.random() < 0.12:
            text = _replace_one(text, MIXED, rng, spaced=True)
        if rng.random() < 0.08:
            text = _replace_one(text, ZH_SLIPS, rng)
        if rng.random() < 0.05:
            text = text.translate(TRADITIONAL)
        openings, endings = ZH_OPENINGS, ZH_ENDINGS
    else:
        if rng.random() < 0.2:
            text = _slip(text, rng)
        if rng.random() < 0.6:
            text = text[0].upper() + text[1:]
        elif rng.random() < 0.3:
            text = text.lower()
        openings, endings = EN_OPENINGS, EN_ENDINGS
    if rng.random() < 0.25:
        text = rng.choice(openings) + text
    if rng.random() < 0.6 and text[-1] not in "?？!":
        text = (text + rng.choice(endings)).strip()
    return replace(question, text=text)


def faults(questions: list[Question], rng: random.Random) -> Iterator[Question]:
    """Rows that a cleaning has to deal with."""

    def some(count: int, change: Callable[[Question], Question]) -> Iterator[Question]:
        return (change(question) for question in rng.sample(questions, count))

    intents = sorted({question.intent for question in questions})
    yield from some(60, lambda question: question)
    yield from some(60, lambda question: replace(question, text=_nearly(question.text, rng)))
    yield from some(
        25, lambda question: replace(question, text=rng.choice(("", " ", "NULL", "nan")))
    )
    yield from some(25, lambda question: replace(question, intent=rng.choice(("", "", "N/A"))))
    yield from some(15, lambda question: replace(question, intent=rng.choice(intents)))
    yield from some(20, lambda question: replace(question, text=f"<p>{question.text}<br/></p>"))
    yield from some(15, lambda question: replace(question, text=_with_url(question.text, rng)))
    yield from some(15, lambda question: replace(question, text=_wide(question.text)))
    yield from some(20, lambda question: replace(question, text=_with_contact(question, rng)))
    yield from some(6, lambda question: replace(question, text=rng.choice("？?.1啊k")))
    yield from some(4, lambda question: replace(question, text=" ".join([question.text] * 60)))
    yield from some(
        4, lambda question: replace(question, text="".join(rng.choices("asdfjkl;", k=30)))
    )


def _replace_one(
    text: str, words: dict[str, str], rng: random.Random, *, spaced: bool = False
) -> str:
    found = [word for word in words if word in text]
    if not found:
        return text
    word = rng.choice(found)
    return text.replace(word, f" {words[word]} " if spaced else words[word], 1).strip()


def _slip(text: str, rng: random.Random) -> str:
    """Two letters swapped, one lost or one doubled, inside a word."""
    places = [match.start() for match in re.finditer(r"(?<=[a-z])[a-z](?=[a-z])", text)]
    if not places:
        return text
    at = rng.choice(places)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if kind == 1 else text[:at] + text[at] + text[at:]


def _nearly(text: str, rng: random.Random) -> str:
    return rng.choice((f"{text}!!", f"  {text}", text.upper(), f"{text} ...", f"re: {text}"))


def _with_url(text: str, rng: random.Random) -> str:
    return f"{text} https://shop.example.com/p/{rng.randint(1000, 9999)}?from=chat"


def _wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _with_contact(question: Question, rng: random.Random) -> str:
    """``question`` with a telephone number or an address that nobody has."""
    if question.chinese:
        return f"{question.text} 我的电话是1380000{rng.randint(0, 9999):04}"
    return f"{question.text} My email is customer{rng.randint(1, 999)}@example.com"


if __name__ == "__main__":
    main()
