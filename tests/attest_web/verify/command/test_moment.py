"""Times as of which evidence can be checked, and what is none."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.command.moment import parse_moment, shown_moment

NOW = datetime.datetime(2026, 6, 15, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-06-14", "2026-06-14T23:59:59Z"),
        ("2024-02-29", "2024-02-29T23:59:59Z"),
        ("2026-06-15T12:00:00Z", "2026-06-15T12:00:00Z"),
        ("2026-06-15T11:59:59.999999Z", "2026-06-15T11:59:59Z"),
        ("2026-06-15T14:00:00+02:00", "2026-06-15T12:00:00Z"),
        ("2026-06-15T06:30:00-05:30", "2026-06-15T12:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
def test_times_and_dates_are_read_as_utc(text: str, shown: str) -> None:
    assert shown_moment(parse_moment(text, NOW)) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(
            (text, "in the future")
            for text in ("2026-06-15T12:00:01Z", "2026-06-15T12:00:00-00:01", "9999-12-31T00:00:00Z")
        ),
        *((text, "has not ended yet") for text in ("2026-06-15", "2026-06-16", "9999-12-31")),
        *((text, "no zone") for text in ("2026-06-14T12:00:00", "2026-06-14T12:00", "2026-06-14T12:00:00.5")),
        *((text, "not a valid time") for text in ("2026-02-29", "2026-13-01", "2026-06-31", "0000-01-01")),
        ("0001-01-01T00:00:00+01:00", "not a valid time"),
        *((text, "takes a date") for text in ("2026-06-14T24:00:00Z", "2026-06-14T23:59:60Z", "2026-06-14T12:60:00Z")),
        *((text, "takes a date") for text in ("2026-06-14T12:00:00+24:00", "2026-06-14T12:00:00+00:60")),
        *((text, "before 1970") for text in ("1969-12-31", "1969-12-31T23:59:59Z")),
        *((text, "takes a date") for text in ("", "now", "yesterday", "1781524800", "2026", "2026-06", "20260614")),
        *((text, "takes a date") for text in ("2026-W24-1", "2026-165", "2026-6-14", "26-06-14", "+2026-06-14")),
        *((text, "takes a date") for text in (" 2026-06-14", "2026-06-14 ", "2026-06-14\n", "2026-06-14Z")),
        *((text, "takes a date") for text in ("2026-06-14 12:00:00Z", "2026-06-14t12:00:00z", "2026-06-14T12:00Z")),
        *((text, "takes a date") for text in ("2026-06-14T12:00:00+01", "2026-06-14T12:00:00+0100", "2026-06-14T12Z")),
        *((text, "takes a date") for text in ("2026-06-14T12:00:00,5Z", "2026-06-14T12:00:00Z[Europe/Rome]")),
        *((text, "takes a date") for text in ("\u0662026-06-14", "2026-06-1\uff14", "2026\u201006\u201014")),
    ],
)
def test_a_time_that_is_not_in_the_past_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_moment(text, NOW)


@settings(deadline=None)
@given(st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2026, 6, 14)))  # noqa: DTZ001
def test_moment_written_in_iso_8601_round_trips(moment: datetime.datetime) -> None:
    written = moment.replace(tzinfo=datetime.UTC)
    assert parse_moment(written.isoformat().replace("+00:00", "Z"), NOW) == written


@settings(deadline=None)
@given(st.text(alphabet="0123456789-:TZ+. ", max_size=30))
def test_moment_of_any_text_is_a_past_utc_time_or_refused(text: str) -> None:
    try:
        moment = parse_moment(text, NOW)
    except ValueError:
        return
    assert moment <= NOW
    assert moment.tzinfo is datetime.UTC
