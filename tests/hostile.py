"""Names that files, columns, labels and directories can have, and that programs may obey."""

import re

#: Names by what they are; each is one name, and all are different.
HOSTILE = {
    "mathematics": "$5 vs $10",
    "broken mathematics": "$x_{$",
    "escaped dollar": r"\$5",
    "TeX": r"\frac{a_b}^#%&~",
    "underscore": "_nolegend_",
    "formats": "%s {0} {} %(a)s",
    "formula": '=cmd|" /C calc"!A1',
    "markup": "</script><!--<script>alert(1)</script>",
    "attribute": "\" onload='alert(1)' &amp; {{data}}",
    "line break": "one\ntwo\r\nthree",
    "tab": "a\tb",
    "escapes": "\x1b[2J\x1b]52;c;aGk=\x07\x1b]8;;http://a\x1b\\",
    "backspaces": "gone\b\b\b\b\x7fcome",
    "C1": "\x9b2J\x90\x85",
    "null": "a\x00b",
    "direction": "\u202efdp.exe\u2066\u200f",
    "separators": "a\u2028b\u2029c\u200b\ufeff",
    "surrogate": "half \ud83d",
    "unassigned": "\u0378\ue000\U000e0041",
    "languages": "größe नमस्ते 猫 שלום \U0001f469\u200d\U0001f52c",
    "empty": "",
    "spaces": "   ",
    "long": "word " * 59 + "word.",
    "longer than a figure": "x" * 100_000,
}
#: What may act on a terminal, or is unseen; a line break is not among them.
ACTS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
