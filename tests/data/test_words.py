from __future__ import annotations

import os
import subprocess
import sys

from lepton.data import segment, tag
from lepton.data.words import count_words, kind_of


def test_chinese_is_cut_into_words_and_latin_stays_whole() -> None:
    words = segment("我的package到哪了，HP20931 怎么退款？")
    assert words == ["我", "的", "package", "到", "哪", "了", "hp", "20931", "怎么", "退款"]
    assert segment("我的快递怎么退款", stop_words=False) == ["快递", "退款"]


def test_english() -> None:
    assert segment("Don't send it, it's 3.5 kg!") == ["don't", "send", "it", "it's", "3.5", "kg"]
    assert segment("Where is my parcel", stop_words=False) == ["parcel"]


def test_parts_of_speech() -> None:
    english = {word: kind_of(kind) for word, kind in tag("My parcel arrived in London quickly")}
    assert english["parcel"] == "noun"
    assert english["arrived"] == "verb"
    assert english["quickly"] == "adverb"
    chinese = {word: kind_of(kind) for word, kind in tag("漂亮的杯子碎了")}
    assert chinese["杯子"] == "noun"
    assert chinese["漂亮"] == "adjective"


def test_the_taggers_bring_their_data(tmp_path: object) -> None:
    """Without a home, without NLTK's data and without sockets."""
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from lepton.data import tag\n"
        "assert tag('The parcel is here') and tag('包裹在这里')\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "NLTK_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_word_counts() -> None:
    assert count_words("我要 return 这个 3.5") == 6
