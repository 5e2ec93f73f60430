"""A profile as one HTML page that needs nothing else, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from lepton.data.findings import Profile

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_FINDINGS = (
    "conflicting labels",
    "near-duplicates",
    "personal data",
    "markup",
    "too long",
    "strange letters",
    "without words",
)

CHINESE: dict[str, str] = {
    "Profile of {source}": "{source} 的数据概况",
    "text": "文本",
    "label": "标签",
    "delimiter": "分隔符",
    "rows": "行数",
    "labels": "标签数",
    "missing texts": "缺失文本",
    "missing labels": "缺失标签",
    "repeated rows": "重复行",
    "near-duplicates": "近似重复",
    "conflicting labels": "标签冲突",
    "rejected rows": "无法读取的行",
    "Mind before training": "训练前请留意",
    "Characters of a text": "文本的字符数",
    "Words of a text": "文本的词数",
    "A Chinese character counts as a word.": "一个汉字计为一个词。",
    "characters": "字符",
    "words": "词",
    "widths grow": "区间逐渐变宽",
    "least": "最少",
    "median": "中位数",
    "most": "最多",
    "mean": "平均",
    "Languages, by their letters": "语言（按文字判断）",
    "Missing cells": "缺失的单元格",
    "Labels": "标签",
    "share": "占比",
    "median length": "长度中位数",
    "words typical of it": "有代表性的词",
    "noun": "名词",
    "verb": "动词",
    "adjective": "形容词",
    "adverb": "副词",
    "{file} beside this page lists them all.": "全部见同目录下的 {file}。",
    "The 200 most frequent of {count}.": "共 {count} 个，此处列出最多的 200 个。",
    "Perhaps one label: {names}": "可能是同一个标签：{names}",
    "Findings, with examples": "发现的问题与示例",
    "row": "行",
    "detail": "说明",
    "personal data": "个人信息",
    "markup": "标记、网址与繁体字",
    "too long": "过长",
    "strange letters": "异常字符序列",
    "without words": "没有文字",
    "Rows that could not be read, or were mended": "无法读取或已修复的行",
    "rejected": "无法读取",
    "mended": "已修复",
    "line": "行号",
    "what": "问题",
    "Near-duplicates, strange letters, words and traditional characters: "
    "from a random sample of {count} rows.": (
        "近似重复、异常字符序列、代表词和繁体字来自 {count} 行的随机样本。"
    ),
    "Personal data is found by patterns and masked here; names are not found.": (
        "个人信息按模式查找，在此已遮盖；姓名不在查找范围内。"
    ),
    "chinese": "中文",
    "latin": "拉丁字母（英文等）",
    "mixed": "中文与拉丁字母混合",
    "japanese": "日文",
    "korean": "韩文",
    "cyrillic": "西里尔字母",
    "arabic": "阿拉伯文",
    "none": "没有文字",
    "Chinese": "中文",
}
_LANGUAGES = {
    "chinese": "Chinese",
    "latin": "Latin letters (English and others)",
    "mixed": "Chinese and Latin letters",
    "none": "no letters",
}


def to_html(profile: Profile, *, chinese: bool = False) -> str:
    """The report as one page, in English or Chinese."""

    def translated(english: str, **values: object) -> str:
        text = CHINESE.get(english, english) if chinese else english
        return text.format(**values) if values else text

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        p=profile,
        t=translated,
        name=Path(profile.source).name,
        language="zh-CN" if chinese else "en",
        percent=_percent,
        figures=_figures(profile, translated),
        languages=[
            (CHINESE[name] if chinese else _LANGUAGES.get(name, name.capitalize()), count)
            for name, count in profile.languages.items()
        ],
        findings=[
            (translated(finding), _count(profile, finding), examples)
            for finding in _FINDINGS
            if (examples := profile.examples.get(finding))
        ],
    )


def to_json(profile: Profile) -> str:
    """The report for machines; fields as in ``Profile``."""
    return json.dumps(asdict(profile), ensure_ascii=False, indent=2)


def _figures(profile: Profile, translated: Any) -> list[tuple[str, str]]:
    figures = [
        (profile.rows, "rows"),
        (profile.label_count, "labels"),
        (profile.missing_text, "missing texts"),
        (profile.missing_label, "missing labels"),
        (profile.duplicate_rows, "repeated rows"),
        (profile.near_duplicate_rows, "near-duplicates"),
        (profile.conflicting_texts, "conflicting labels"),
        (sum(profile.rejected.values()), "rejected rows"),
    ]
    return [(f"{value:,}", translated(caption)) for value, caption in figures]


def _count(profile: Profile, finding: str) -> str:
    counts = {
        "conflicting labels": profile.conflicting_texts,
        "near-duplicates": profile.near_duplicate_rows,
        "personal data": sum(profile.personal_data.values()),
        "markup": sum(profile.markup.values()),
        "too long": profile.too_long_rows,
        "strange letters": profile.strange_rows,
    }
    return f"{counts[finding]:,}" if finding in counts else ""


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "—"
