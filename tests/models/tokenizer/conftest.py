"""Text to tokenize, small vocabularies to do it with, and the tokenizers of the real models.

The lines are prose in English and Chinese, code, emoji, odd whitespace and mixtures of scripts.
"""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lepton.models.tokenizer import Tokenizer
from lepton.models.weights import Checkpoint, open_checkpoint

ENGLISH = """
The capital of France is Paris, isn't it? I'd say so; they've said it's THE city we'll visit.
In 1789 there were 28,600,000 people; by 2023, 68.04 million (+137.9%).
"Quoted," she said -- 'and nested "quotes" too' -- don't you think? It's 50/50... O'Brien's?
e.g. http://example.com/a_b-c?d=1&e=%20#frag or mail first.last@example.co.uk, +1 (555) 010-9999
naïve café résumé coöperate Zürich Ærøskøbing señor façade straße İstanbul ﬁne
Antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis supercalifragilistic
THE QUICK BROWN FOX jumps OvEr tHe LaZy dog. 1st 2nd 3rd 4th 10th 21st MMXXIV
""".strip().splitlines()

CHINESE = """
北京是中华人民共和国的首都，人口超过两千万。
您好！请问我的订单什么时候能送到？订单号是 A20240815-0032。
春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。
人工智能（AI）正在改变世界：从翻译、搜索到客服，无处不在……
他说：“今天是2024年8月15日，气温37.5℃，湿度80%。”
繁體中文與簡體中文的區別在於字形，例如「龍」和「龙」、「體」和「体」。
𠮷野家、𡃁仔、㐂、䶮、𪚥，这些都是生僻字。
退款流程：1）登录账号；2）选择“我的订单”；3）点击【申请退款】。
深度学习模型的参数量从7B到70B不等，显存需求也随之增加。
""".strip().splitlines()

CODE = [
    "def f(x: int, *, y='a') -> dict[str, int]:  # comment\n    return {y: x ** 2}\n",
    '\tif (a->b != NULL && c[i++] >= 0x7fULL) { printf("%s\\n", a->b); }',
    "SELECT t.*, COUNT(*) FROM `orders` t WHERE t.created_at >= '2024-01-01' GROUP BY 1;",
    '{"key": [1, 2.5e-10, null, true], "嵌套": {"emoji": "\\ud83d\\ude00"}}',
    '<div class="a b"><table><tr><td>1</td></tr></table></div>',
    "$ ls -la | grep '^d' | awk '{print $9}' > /dev/null 2>&1",
    "\\frac{\\partial^2 u}{\\partial t^2} = c^2 \\nabla^2 u",
]

EMOJI = [
    "👩‍👩‍👧‍👦 family, 👨🏽‍🚀 astronaut, 🏳️‍🌈 flag, 🇨🇳🇫🇷 flags, 1️⃣ keycap, ❤️ vs ❤",
    "😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘",
    "ok👍 好的👌🏻 да✅ ©®™ ←↑→↓ ▲▼ ∑∫√∞ ½ ⅓ ² ³ ① ㊗️",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "e\u0301 vs é, Å vs A\u030a vs \u212b, 한글 vs \u1112\u1161\u11ab, \ufb01 \u2126",
    "العربية نص من اليمين ١٢٣ עברית हिन्दी १२३ ไทย ๑๒๓ ქართული Ελληνικά Кириллица",
    "日本語のテキスト、カタカナ、ひらがな。한국어 텍스트입니다. Tiếng Việt có dấu.",
]

WHITESPACE = [
    "", " ", "  ", "   x", "x   ", " x ", "\n", "\n\n", "\n\n\nx", "x\n \n\ty", "\t", "\t\t\tx\t",
    "\r\n", "a\r\nb\r\n\r\nc", "\u00a0x\u00a0", "\u3000全角\u3000空格", "\u2003em\u2009thin",
    "a\u200bb\u200dc\ufeffd", "\x0b\x0c\x1c\x85\u2028\u2029", "a  b   c    d     e",
    "    def f():\n        pass\n\n\n    x = 1\n", "\x00\x01\x7f\x80\x9f", "\ufffd\ufffe\U0010ffff",
    "x" + " " * 40 + "y", "\n" * 40, "\t" * 40, " \n" * 9, "word " * 30, "　　段落开头",
]  # fmt: skip

_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    " \t\n\r\u00a0\u3000  ",
    ".,;:!?'\"()[]{}<>@#$%^&*-_=+/\\|`~",
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过",
    "。，、；：？！“”‘’（）《》【】…—",
    "éèüñçøåßœæłžščřğıİÀÉÎÕÜ",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "あいうえおかきくけこアイウエオ가나다라마바사",
    "😀👍🏽❤️🚀🇨🇳👩‍💻\u200d\ufe0f",
    "\u0301\u0308\u030a\u0e33\u0943",
)
_CONTRACTIONS = ("'s", "'T", "'re", "'VE", "'m", "'ll", "'D", "n't", "’s")


def mixed_line(random_source: random.Random) -> str:
    """A line that changes script, case and spacing at random."""
    parts = []
    for _ in range(random_source.randint(1, 12)):
        if random_source.random() < 0.1:
            parts.append(random_source.choice(_CONTRACTIONS))
        else:
            alphabet = random_source.choice(_ALPHABETS)
            parts.append("".join(random_source.choices(alphabet, k=random_source.randint(1, 8))))
        if random_source.random() < 0.4:
            parts.append(" " * random_source.randint(1, 3))
    return "".join(parts)


def source_lines(count: int) -> list[str]:
    """Lines of the Python standard library, evenly spread, with their indentation."""
    folder = Path(sysconfig.get_path("stdlib"))
    names = ("argparse", "ast", "datetime", "decimal", "email/message", "inspect", "locale",
             "smtplib", "textwrap", "turtle", "typing", "zipfile")  # fmt: skip
    lines: list[str] = []
    for name in names:
        for file in (folder / f"{name}.py", folder / f"_py{name}.py"):
            if file.is_file():
                lines += file.read_text(encoding="utf-8").splitlines()
    return lines[:: max(1, len(lines) // count)][:count]


def chinese_lines(count: int, random_source: random.Random) -> list[str]:
    """Clauses of the Chinese sentences, joined anew, some with English words and numbers."""
    clauses = [
        clause for line in CHINESE for clause in line.replace("。", "，").split("，") if clause
    ]
    extras = ["GPU", " Python 3.11 ", "100%", "￥1,234.50", " OK ", "2024年", "iPhone", "\n", "  "]
    return [
        "，".join(random_source.sample(clauses, 3)) + random_source.choice(extras)
        + random_source.choice(clauses) + "。"
        for _ in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def lines() -> list[str]:
    """More than two thousand lines, the same on every run with one Python version."""
    random_source = random.Random(20240815)
    return [
        *ENGLISH,
        *CHINESE,
        *CODE,
        *EMOJI,
        *WHITESPACE,
        *source_lines(700),
        *chinese_lines(500, random_source),
        *(mixed_line(random_source) for _ in range(1200)),
    ]


@pytest.fixture(scope="session")
def smollm2_checkpoint(smollm2_path: Path) -> Iterator[Checkpoint]:
    with open_checkpoint(smollm2_path) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="session")
def gemma3_checkpoint(gemma3_path: Path) -> Iterator[Checkpoint]:
    with open_checkpoint(gemma3_path) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="session")
def smollm2(smollm2_checkpoint: Checkpoint) -> Tokenizer:
    return Tokenizer.from_checkpoint(smollm2_checkpoint)


@pytest.fixture(scope="session")
def gemma3(gemma3_checkpoint: Checkpoint) -> Tokenizer:
    return Tokenizer.from_checkpoint(gemma3_checkpoint)


LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace("{1,3}", "")


def published_pre_tokenizer(family: str) -> pre_tokenizers.PreTokenizer:
    """The ``pre_tokenizer`` of the family's tokenizer.json, as its authors published it."""
    if family == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if family == "smollm":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    split = {"llama-bpe": LLAMA3_SPLIT, "qwen2": QWEN2_SPLIT}[family]
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


SPECIAL_TOKENS = ("<|begin|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="session")
def trained(lines: list[str]) -> Callable[[str], tokenizers.Tokenizer]:
    """Byte-level vocabularies of 2,000 tokens, trained on the lines with each family's cut."""
    made: dict[str, tokenizers.Tokenizer] = {}

    def train(family: str) -> tokenizers.Tokenizer:
        if family not in made:
            library = tokenizers.Tokenizer(models.BPE(ignore_merges=family == "llama-bpe"))
            library.pre_tokenizer = published_pre_tokenizer(family)
            if family == "qwen2":
                library.normalizer = normalizers.NFC()
            library.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=2000,
                special_tokens=list(SPECIAL_TOKENS),
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
            library.train_from_iterator(lines, trainer)
            made[family] = library
        return made[family]

    return train


@pytest.fixture(scope="session")
def byte_level_metadata(
    trained: Callable[[str], tokenizers.Tokenizer],
) -> Callable[[str], dict[str, Any]]:
    """GGUF metadata of a trained vocabulary."""

    def metadata(family: str) -> dict[str, Any]:
        library = trained(family)
        vocabulary = library.get_vocab()
        tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
        model = json.loads(library.to_str())["model"]
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": family,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3 if t in SPECIAL_TOKENS else 1 for t in tokens],
            "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 1,
        }

    return metadata
