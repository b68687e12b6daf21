"""Parses the time as of which saved evidence is checked: RFC 3339 only."""

import datetime
import re

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_HOUR_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_HOUR_MINUTE}:[0-5][0-9](?:\.[0-9]{{1,6}})?"
_MOMENT = re.compile(rf"{_DATE}(?:T{_TIME}(?:Z|[+-]{_HOUR_MINUTE}))?")
_WITHOUT_ZONE = re.compile(rf"{_DATE}T[0-9:.]+")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse_moment(text: str, now: datetime.datetime) -> datetime.datetime:
    """Parse a time of the past.

    Args:
        text: A time with its zone (RFC 3339, 5.6, with upper-case letters), or a date, which stands for the end of that
            day in UTC.
        now: The time now, with its zone.

    Returns:
        The time in UTC.

    Raises:
        ValueError: It is not a time, or not in the past. The message says which, and what to do.
    """
    if not _MOMENT.fullmatch(text):
        if _WITHOUT_ZONE.fullmatch(text):
            raise ValueError("has no zone: add Z for UTC, or an offset such as +01:00")
        raise ValueError("takes a date (2026-01-31), or a time with its zone (2026-01-31T12:00:00Z)")
    is_date = "T" not in text
    try:
        moment = datetime.datetime.fromisoformat(f"{text}T23:59:59Z" if is_date else text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a valid time") from None
    if moment < _EPOCH:
        raise ValueError("is before 1970")
    if moment > now:
        raise ValueError("has not ended yet, in UTC: give a time of that day" if is_date else "is in the future")
    return moment


def shown_moment(moment: datetime.datetime) -> str:
    """A time in UTC in the format of RFC 3339, without fractions of a second."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> datetime.datetime:
    """The time now, in UTC."""
    return datetime.datetime.now(datetime.UTC)
