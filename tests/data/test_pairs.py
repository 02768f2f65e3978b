"""The rules of the pairs, checked by grammars that read both texts back, written independently."""

from __future__ import annotations

import calendar
import datetime
import inspect
import itertools
import random
import re

import numpy as np
import pytest

from gentext import pairs

SMALL = {
    word: value
    for value, word in enumerate(
        re.findall(
            r"\w+",
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
            "fifteen sixteen seventeen eighteen nineteen",
        )
    )
}
ROUND = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
NUMERALS = {numeral: value for value, numeral in enumerate("零一二三四五六七八九")}
UNITS = {"十": 10, "百": 100, "千": 1000}
MONTHS = [*calendar.month_name][1:]
DAYS = [*calendar.day_name]


def read_english(text: str) -> int:
    total = group = 0
    for word in re.split(r"[ -]", text):
        if word in SMALL or word in ROUND:
            group += SMALL.get(word, 0) + ROUND.get(word, 0)
        elif word == "hundred":
            group *= 100
        elif word != "and":
            total += group * {"thousand": 10**3, "million": 10**6, "billion": 10**9}[word]
            group = 0
    return total + group


def read_chinese(text: str) -> int:
    for unit, power in (("亿", 10**8), ("万", 10**4)):
        if unit in text:
            high, low = text.split(unit)
            return read_chinese(high) * power + (read_chinese(low) if low else 0)
    total, digit = 0, 0
    for c in text.replace("两", "二"):
        if c in NUMERALS:
            digit = NUMERALS[c]
        else:
            total, digit = total + (digit or 1) * UNITS[c], 0
    return total + digit


def spell_chinese(n: int) -> str:
    """Every digit with its unit, zeros too, and then what is not said is struck out."""
    text = ""
    for place, digit in reversed(list(enumerate(map(int, reversed(str(n)))))):
        unit = ("", "十", "百", "千")[place % 4] if digit else ""
        text += "零一二三四五六七八九"[digit] + unit + {4: "万", 8: "亿"}.get(place, "")
    text = re.sub("零+", "零", text)
    text = re.sub("零([万亿])", r"\1", text).replace("亿万", "亿零")
    text = re.sub("零+", "零", text)
    return re.sub("^一十", "十", text.rstrip("零")) or "零"


def numbers() -> list[int]:
    source = random.Random(5)
    some = [source.randrange(10 ** source.randint(4, 12)) for _ in range(3000)]
    # Zeros at every place, which is where the rules are.
    rare = [
        sum(d * 10**i for i, d in enumerate(reversed(digits)))
        for digits in itertools.product((0, 1), repeat=12)
    ]
    return [*range(3000), *some, *rare]


def test_numbers_in_both_languages_read_back_as_themselves() -> None:
    for n in numbers():
        assert read_english(pairs.english_number(n)) == n
        assert read_chinese(pairs.chinese_number(n)) == n


def test_chinese_numbers_say_one_zero_for_each_gap() -> None:
    for n in numbers():
        assert pairs.chinese_number(n) == spell_chinese(n), n


def test_english_numbers_have_the_usual_form() -> None:
    """ "and" stands before the last two digits, and hyphens within them."""
    below = "|".join(SMALL)
    two = rf"(?:(?:{'|'.join(ROUND)})(?:-(?:{below}))?|{below})"
    three = rf"(?:(?:{below}) hundred(?: and {two})?|{two})"
    form = re.compile(
        rf"(?:{three} billion ?)?(?:{three} million ?)?(?:{three} thousand ?)?"
        rf"(?:(?<= )and {two}|(?:{below}) hundred(?: and {two})?|^{two})?"
    )
    for n in numbers():
        text = pairs.english_number(n)
        assert form.fullmatch(text), text
        assert text.strip() == text
        assert ("zero" in text) == (n == 0)


def test_numbers_known_from_grammars() -> None:
    for n, en, zh in (
        (105, "one hundred and five", "一百零五"),
        (10_010, "ten thousand and ten", "一万零一十"),
        (2_000_300, "two million three hundred", "二百万零三百"),
        (100_000_001, "one hundred million and one", "一亿零一"),
    ):
        assert pairs.number(n) == (en, zh)
    assert [pairs.chinese_count(n) for n in (1, 2, 12, 22)] == ["一", "两", "十二", "二十二"]


def read_english_date(text: str) -> tuple[datetime.date, str | None]:
    found = re.fullmatch(r"(?:(\w+day), )?(\w+) (\d+)(st|nd|rd|th), (\d{4})", text)
    if found:
        weekday, month, day, ending, year = found.groups()
        last = day[-1] if len(day) == 1 or day[0] != "1" else "0"
        assert ending == {"1": "st", "2": "nd", "3": "rd"}.get(last, "th")
    else:
        weekday, (day, month, year) = None, re.fullmatch(r"(\d+) (\w+) (\d{4})", text).groups()
    return datetime.date(int(year), MONTHS.index(month) + 1, int(day)), weekday


def read_chinese_date(text: str) -> tuple[datetime.date, str | None]:
    year, month, day, weekday = re.fullmatch(
        r"(.{4})年(.{1,2})月(.{1,3})日(?:星期(.))?", text
    ).groups()
    if year.isascii():
        whole = datetime.date(int(year), int(month), int(day))
    else:
        digits = int("".join(str(NUMERALS[c]) for c in year))
        whole = datetime.date(digits, read_chinese(month), read_chinese(day))
    return whole, DAYS["一二三四五六日".index(weekday)] if weekday else None


def test_dates_read_back_with_their_true_weekday() -> None:
    start = datetime.date(1899, 12, 1)
    for offset in (*range(800), *range(800, 60_000, 97)):
        day = start + datetime.timedelta(offset)
        for form in pairs.DATE_FORMS:
            en, zh = pairs.date(day, form)
            name = calendar.day_name[day.weekday()] if form == "weekday" else None
            assert read_english_date(en) == (day, name)
            assert read_chinese_date(zh) == (day, name)
            assert zh[:4].isascii() == (form == "digits") == en[0].isdigit()


def read_english_clock(text: str) -> tuple[int, int, str]:
    time, part = re.fullmatch(r"(.+) (in the morning|in the afternoon|at night)", text).groups()
    if time.endswith(" o'clock"):
        return read_english(time.removesuffix(" o'clock")), 0, part
    minutes, way, hour = re.fullmatch(r"(.+) (past|to) (.+)", time).groups()
    minute = {"a quarter": 15, "half": 30}.get(minutes) or read_english(minutes)
    assert 0 < minute <= 30
    before, named = way == "to", read_english(hour)
    assert 1 <= named <= 12
    past = (named - before) or 12
    return past, 60 - minute if before else minute, part


def read_chinese_clock(text: str) -> tuple[int, int, str]:
    part, hour, minute = re.fullmatch(r"(上午|下午|夜里)(.+)点(.*)", text).groups()
    english = {"上午": "in the morning", "下午": "in the afternoon", "夜里": "at night"}[part]
    assert "二" not in hour or hour == "十二"  # two o'clock is 两点
    named = {"": 0, "一刻": 15, "半": 30, "三刻": 45}
    value = named[minute] if minute in named else read_chinese(minute.removesuffix("分"))
    assert minute.startswith("零") == (0 < value < 10)
    return read_chinese(hour), value, english


def test_all_times_of_day_read_back() -> None:
    times = itertools.product(range(1, 13), range(60), pairs.DAYPARTS)
    written = {pairs.clock(*time): time for time in times}
    assert len(written) == pairs.KINDS["clock"].size
    for (en, zh), time in written.items():
        assert read_english_clock(en) == time
        assert read_chinese_clock(zh) == time


def one_of(words: dict[str, str], name: str) -> str:
    """A group of a regular expression that prefers the longest of ``words``."""
    return f"(?P<{name}>{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"


def inverse(table: dict[str, str]) -> dict[str, str]:
    turned = {zh: en for en, zh in table.items()}
    assert len(turned) == len(table)
    return turned


def test_every_sentence_can_be_translated_back_word_by_word() -> None:
    """So Chinese word order, measure words and adjectives say all that English says."""
    subjects, verbs, places, times, adjectives = map(
        inverse, (pairs.SUBJECTS, pairs.VERBS, pairs.PLACES, pairs.TIMES, pairs.ADJECTIVES)
    )
    adjectives["老"] = "old"
    nouns = {noun.measure + "|" + noun.zh: noun for noun in pairs.NOUNS}
    assert len(nouns) == len(pairs.NOUNS)
    measures = dict.fromkeys((noun.measure for noun in pairs.NOUNS), "")
    things = dict.fromkeys((noun.zh for noun in pairs.NOUNS), "")
    count = "(?P<count>[一二三四五六七八九十两]+)"
    groups = ((subjects, "subject"), (times, "time"), (places, "place"), (verbs, "verb"))
    start = "".join(one_of(table, name) for table, name in groups)
    rest = ((measures, "measure"), (adjectives, "adjective"), (things, "noun"))
    form = re.compile(start + count + "".join(one_of(table, name) for table, name in rest) + "。")
    for en, zh in pairs.make(4000, seed=2, kinds=("sentence",)):
        words = form.fullmatch(zh).groupdict()
        noun = nouns[words["measure"] + "|" + words["noun"]]
        n = read_chinese(words["count"])
        assert (words["count"] == "两") == (n == 2)
        adjective = adjectives[words["adjective"]]
        assert adjective != "old" or noun.alive == (words["adjective"] == "老")
        thing = f"{adjective} {noun.one if n == 1 else noun.many}".strip()
        amount = f"a{'n' * (thing[0] in 'aeiou')}" if n == 1 else pairs.english_number(n)
        said = (
            subjects[words["subject"]],
            verbs[words["verb"]],
            amount,
            thing,
            places[words["place"]],
            times[words["time"]],
        )
        back = " ".join(filter(None, said)) + "."
        assert back[0].upper() + back[1:] == en


def test_no_text_occurs_twice_so_that_parts_of_a_list_share_none() -> None:
    listed = pairs.make(15_000, seed=1)
    for texts in zip(*listed, strict=True):
        assert len(set(texts)) == 15_000


def test_numbers_of_numpy_are_numbers() -> None:
    """Small types would overflow in the rules."""
    for n in (np.int64(123_456_789_012), np.int32(2_000_000_300), np.uint8(200), np.int8(7)):
        assert inspect.unwrap(pairs.number)(n) == pairs.number(int(n))
    assert inspect.unwrap(pairs.clock)(np.int64(2), np.int8(45), "at night") == pairs.clock(
        2, 45, "at night"
    )
    assert inspect.unwrap(pairs.make)(np.int64(9)) == pairs.make(9)


def test_what_is_no_whole_number_is_refused() -> None:
    for n in (2.0, "3", None):
        with pytest.raises(ValueError, match=r"whole numbers are written from 0"):
            inspect.unwrap(pairs.english_number)(n)
        with pytest.raises(ValueError, match="ask for 0 to"):
            inspect.unwrap(pairs.make)(n)
        with pytest.raises(ValueError, match="the hour must be 1 to 12"):
            inspect.unwrap(pairs.clock)(n, 3, "at night")


def test_lists_follow_their_seed_and_kinds() -> None:
    assert pairs.make(50, seed=3) == pairs.make(50, seed=3)
    assert pairs.make(50, seed=3) != pairs.make(50, seed=4)
    assert pairs.make(0) == []
    every = pairs.make(pairs.KINDS["clock"].size, kinds=("clock",))
    assert all("点" in zh for _, zh in every)
    by_kind = {
        "number": lambda zh: not re.search("[年点。]", zh),
        "date": lambda zh: "年" in zh and "日" in zh and "。" not in zh,
        "sentence": lambda zh: zh.endswith("。"),
    }
    for kind, belongs in by_kind.items():
        assert all(belongs(zh) for _, zh in pairs.make(200, kinds=(kind,)))


def test_a_kind_that_is_used_up_is_spread_over_the_list() -> None:
    """All times of day occur in 20,000 pairs, so late draws hardly ever find a new one."""
    clocks = ["点" in zh for _, zh in pairs.make(20_000)]
    assert abs(sum(clocks[:10_000]) - sum(clocks[10_000:])) < 4 * sum(clocks) ** 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pairs.make(5, kinds=("poem",)), "poem.*number, date, clock, sentence"),
        (lambda: pairs.make(5, kinds=()), "choose some of"),
        (lambda: pairs.make(2161, kinds=("clock",)), r"n=2161.*2,160"),
        (lambda: pairs.make(-1), "n=-1"),
        (lambda: pairs.chinese_number(-1), "-1"),
        (lambda: pairs.english_number(10**12), "1000000000000"),
        (lambda: pairs.sentence("the cow", "saw", 2, pairs.NOUNS[0]), "unknown subject 'the cow'"),
        (lambda: pairs.clock(13, 0, "at night"), "13:0.*1 to 12"),
        (lambda: pairs.clock(3, 0, "noon"), "noon.*in the morning"),
        (lambda: pairs.date(datetime.date(2000, 1, 1), "iso"), "'iso'.*words, weekday, digits"),
    ],
)
def test_impossible_requests_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
