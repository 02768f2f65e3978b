"""English and Chinese texts that mean the same, made by rules: as many pairs as one likes.

There are four kinds: whole numbers, dates, times of day, and sentences, where Chinese needs a
measure word after the number and puts time and place before the verb. Either text of a pair
determines the other, so each has exactly one right translation, in both directions.

Notation: ``en`` the English text, ``zh`` the Chinese one; ``n`` a whole number.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from gentext.core import chosen
from gentext.core.signatures import keep_contract

Pair = tuple[str, str]


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


ONES = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
TENS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
POWERS = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
DIGITS = "零一二三四五六七八九"
MONTHS = _list(
    "January February March April May June July August September October November December"
)
WEEKDAYS = dict(
    zip(
        _list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        (f"星期{day}" for day in "一二三四五六日"),
        strict=True,
    )
)
DATE_FORMS = ("words", "weekday", "digits")
DAYPARTS = {"in the morning": "上午", "in the afternoon": "下午", "at night": "夜里"}
SUBJECTS = {
    "I": "我",
    "you": "你",
    "he": "他",
    "she": "她",
    "we": "我们",
    "they": "他们",
    "my father": "我爸爸",
    "my mother": "我妈妈",
    "her sister": "她姐姐",
    "our teacher": "我们的老师",
    "the old man": "那位老人",
    "their friend": "他们的朋友",
}
VERBS = {
    "bought": "买了",
    "saw": "看见了",
    "sold": "卖了",
    "found": "找到了",
    "lost": "丢了",
    "drew": "画了",
    "borrowed": "借了",
    "counted": "数了",
}
PLACES = {
    "": "",
    "in the park": "在公园里",
    "at the station": "在车站",
    "in Beijing": "在北京",
    "in the shop": "在商店里",
    "near the river": "在河边",
    "at school": "在学校",
    "in London": "在伦敦",
}
TIMES = {
    "": "",
    "yesterday": "昨天",
    "last week": "上周",
    "this morning": "今天早上",
    "last year": "去年",
    "in the evening": "晚上",
    **{f"on {day}": name for day, name in WEEKDAYS.items()},
}
ADJECTIVES = {
    "": "",
    "red": "红色的",
    "black": "黑色的",
    "small": "小",
    "big": "大",
    "beautiful": "漂亮的",
    "expensive": "昂贵的",
    "old": "旧的",  # of what lives: OLD_ALIVE
}
OLD_ALIVE = "老"


class Noun(NamedTuple):
    """What can be bought, counted or lost; ``measure`` stands between a number and ``zh``."""

    one: str
    many: str
    measure: str
    zh: str
    alive: bool = False


NOUNS = (
    Noun("book", "books", "本", "书"),
    Noun("horse", "horses", "匹", "马", alive=True),
    Noun("cat", "cats", "只", "猫", alive=True),
    Noun("dog", "dogs", "条", "狗", alive=True),
    Noun("fish", "fish", "条", "鱼", alive=True),
    Noun("bird", "birds", "只", "鸟", alive=True),
    Noun("tree", "trees", "棵", "树", alive=True),
    Noun("car", "cars", "辆", "汽车"),
    Noun("pen", "pens", "支", "笔"),
    Noun("shirt", "shirts", "件", "衬衫"),
    Noun("table", "tables", "张", "桌子"),
    Noun("ticket", "tickets", "张", "票"),
    Noun("picture", "pictures", "幅", "画"),
    Noun("boat", "boats", "艘", "船"),
    Noun("umbrella", "umbrellas", "把", "雨伞"),
    Noun("chair", "chairs", "把", "椅子"),
    Noun("house", "houses", "座", "房子"),
    Noun("computer", "computers", "台", "电脑"),
    Noun("toy", "toys", "个", "玩具"),
    Noun("lamp", "lamps", "盏", "灯"),
)


def english_number(n: int) -> str:
    """``n`` in English words, such as "one hundred and five"; ValueError unless 0 <= n < 10**12."""
    n = _checked(n)
    if n < 20:
        return ONES[n]
    if n < 100:
        tens, ones = divmod(n, 10)
        return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")
    if n < 1000:
        hundreds, rest = divmod(n, 100)
        return f"{ONES[hundreds]} hundred" + (f" and {english_number(rest)}" if rest else "")
    power, name = next((power, name) for power, name in POWERS if n >= power)
    high, rest = divmod(n, power)
    link = " and " if rest < 100 else " "
    return f"{english_number(high)} {name}" + (link + english_number(rest) if rest else "")


def chinese_number(n: int) -> str:
    """``n`` in Chinese numerals, such as "一百零五"; ValueError unless 0 <= n < 10**12.

    Chinese counts in powers of ten thousand; one 零 stands for any run of zeros inside a number.
    """
    n = _checked(n)
    if n == 0:
        return DIGITS[0]
    written, zeros = "", False
    for power, unit in ((10**8, "亿"), (10**4, "万"), (1, "")):
        group = n // power % 10**4
        if written and group and (zeros or group < 1000):
            written += DIGITS[0]
        written += _below_ten_thousand(group) + unit if group else ""
        zeros = not group
    return written.removeprefix("一") if written.startswith("一十") else written


def chinese_count(n: int) -> str:
    """``n`` as it stands before a measure word, where two is 两."""
    return "两" if n == 2 else chinese_number(n)


def number(n: int) -> Pair:
    """A whole number in words."""
    n = _checked(n)
    return english_number(n), chinese_number(n)


def date(day: datetime.date, form: str = "words") -> Pair:
    """A date: ``form`` "words" (March 10th, 2058), "weekday" with it before, or "digits"."""
    chosen("form of a date", form, DATE_FORMS)
    month = MONTHS[day.month - 1]
    if form == "digits":
        return f"{day.day} {month} {day.year}", f"{day.year}年{day.month}月{day.day}日"
    en = f"{month} {day.day}{_ending(day.day)}, {day.year}"
    year = "".join(DIGITS[int(digit)] for digit in str(day.year))
    zh = f"{year}年{chinese_number(day.month)}月{chinese_number(day.day)}日"
    if form == "words":
        return en, zh
    name = list(WEEKDAYS)[day.weekday()]
    return f"{name}, {en}", zh + WEEKDAYS[name]


def clock(hour: int, minute: int, part: str) -> Pair:
    """A time of day: ``hour`` 1 to 12, ``minute`` 0 to 59, ``part`` a key of ``DAYPARTS``."""
    whole = isinstance(hour, Integral) and isinstance(minute, Integral)
    if not (whole and 1 <= hour <= 12 and 0 <= minute <= 59):
        raise ValueError(f"got {hour}:{minute}: the hour must be 1 to 12, the minute 0 to 59")
    hour, minute = int(hour), int(minute)
    when = chosen("part of the day", part, DAYPARTS)
    this, following = english_number(hour), english_number(hour % 12 + 1)
    minutes = chinese_number(minute) + "分"
    if minute == 0:
        en, minutes = f"{this} o'clock", ""
    elif minute == 15:
        en, minutes = f"a quarter past {this}", "一刻"
    elif minute == 30:
        en, minutes = f"half past {this}", "半"
    elif minute == 45:
        en, minutes = f"a quarter to {following}", "三刻"
    elif minute < 30:
        en = f"{english_number(minute)} past {this}"
    else:
        en = f"{english_number(60 - minute)} to {following}"
    zero = DIGITS[0] if 0 < minute < 10 else ""
    return f"{en} {part}", f"{when}{chinese_count(hour)}点{zero}{minutes}"


def sentence(
    subject: str,
    verb: str,
    n: int,
    noun: Noun,
    *,
    adjective: str = "",
    place: str = "",
    time: str = "",
) -> Pair:
    """Who did what with ``n`` things, where and when; the words are keys of the tables above."""
    things = noun.one if n == 1 else noun.many
    article = "an" if (adjective or things)[0] in "aeiou" else "a"
    count = article if n == 1 else english_number(n)
    en = " ".join(filter(None, (subject, verb, count, adjective, things, place, time)))
    quality = chosen("adjective", adjective, ADJECTIVES)
    if noun.alive and adjective == "old":
        quality = OLD_ALIVE
    who, did = chosen("subject", subject, SUBJECTS), chosen("verb", verb, VERBS)
    when, where = chosen("time", time, TIMES), chosen("place", place, PLACES)
    what = chinese_count(n) + noun.measure + quality + noun.zh
    return f"{en[0].upper()}{en[1:]}.", f"{who}{when}{where}{did}{what}。"


def make(
    n: int, seed: int = 0, kinds: Sequence[str] = ("number", "date", "clock", "sentence")
) -> list[Pair]:
    """``n`` pairs (en, zh) in random order, no text twice; the same for the same arguments.

    Any parts of the list therefore share no source sentence, in either direction. ValueError for
    unknown ``kinds``, or where they cannot make ``n`` different pairs.
    """
    if not kinds:
        raise ValueError(f"got no kinds: choose some of {', '.join(KINDS)}")
    most = sum(chosen("kind of pairs", kind, KINDS).size for kind in set(kinds))
    if not isinstance(n, Integral) or not 0 <= n <= most:
        raise ValueError(f"got n={n}, but there are {most:,} such pairs: ask for 0 to {most:,}")
    source = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < n:
        en, zh = KINDS[source.choice(kinds)].draw(source)
        pairs[en] = zh
    listed = list(pairs.items())
    source.shuffle(listed)  # kinds that are used up would else be rarer towards the end
    return listed


class Kind(NamedTuple):
    """How a random pair of a kind is drawn, and how many different ones there are."""

    draw: Callable[[random.Random], Pair]
    size: int


FIRST, LAST = datetime.date(1800, 1, 1), datetime.date(2099, 12, 31)
LENGTHS = (2, 3, 4, 6, 8)  # the most digits that a number has, each as likely


def _number(source: random.Random) -> Pair:
    return number(source.randrange(10 ** source.choice(LENGTHS)))


def _date(source: random.Random) -> Pair:
    day = datetime.date.fromordinal(source.randint(FIRST.toordinal(), LAST.toordinal()))
    return date(day, source.choice(DATE_FORMS))


def _clock(source: random.Random) -> Pair:
    minute = source.choice((0, 15, 30, 45, *[source.randrange(60)] * 4))
    return clock(source.randint(1, 12), minute, source.choice(list(DAYPARTS)))


def _sentence(source: random.Random) -> Pair:
    subject, verb, adjective, place, time = (
        source.choice(list(table)) for table in (SUBJECTS, VERBS, ADJECTIVES, PLACES, TIMES)
    )
    n = source.choice((1, source.randint(2, 10), source.randint(2, 99)))
    noun = source.choice(NOUNS)
    return sentence(subject, verb, n, noun, adjective=adjective, place=place, time=time)


def _sentences() -> int:
    size = 99 * len(NOUNS)
    for table in (SUBJECTS, VERBS, ADJECTIVES, PLACES, TIMES):
        size *= len(table)
    return size


KINDS = {
    "number": Kind(_number, 10 ** max(LENGTHS)),
    "date": Kind(_date, len(DATE_FORMS) * (LAST - FIRST + datetime.timedelta(1)).days),
    "clock": Kind(_clock, 12 * 60 * len(DAYPARTS)),
    "sentence": Kind(_sentence, _sentences()),
}


def _checked(n: Any) -> int:
    """``n`` as Python's own integer, which does not overflow."""
    if not isinstance(n, Integral) or not 0 <= int(n) < 10**12:
        raise ValueError(f"got {n!r}, but whole numbers are written from 0 to 10**12 - 1")
    return int(n)


def _below_ten_thousand(n: int) -> str:
    written, zero = "", False
    for power, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = n // power % 10
        if digit:
            written += (DIGITS[0] if zero and written else "") + DIGITS[digit] + unit
        zero = not digit
    return written


def _ending(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


keep_contract(globals())
