"""Quiet hours by Python's zoneinfo, for quiet.pl.

Prints lines of SQL values: destination, instant, and until when it is quiet
then (or NULL), for windows that it prints first as calls.
"""
import datetime as dt
import random
import sys
from zoneinfo import ZoneInfo

UTC = dt.timezone.utc
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
NAMES = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
ALL = range(7)

# days, from, to in minutes; None and None is the whole day
SETS = {
    'night': [(ALL, 22 * 60, 6 * 60)],
    'weekend': [([4], 18 * 60, 24 * 60), ([5, 6], None, None), ([0], 0, 8 * 60 + 30)],
    'skips': [([6, 5], 2 * 60 + 30, 7 * 60)],
    'ends': [(ALL, 23 * 60, 2 * 60 + 30)],
    'noon': [(range(5), 12 * 60, 12 * 60), ([6], 1 * 60 + 45, 2 * 60 + 15)],
}
# the Sundays on which clocks change in 2026
ZONES = {
    'Europe/Berlin': ['2026-03-29', '2026-10-25'],
    'America/St_Johns': ['2026-03-08', '2026-11-01'],
    'Australia/Lord_Howe': ['2026-04-05', '2026-10-04'],
}


def instant(day, minutes, zone):
    """As AT TIME ZONE: of two offsets that of winter."""
    local = dt.datetime.combine(day, dt.time()) + dt.timedelta(minutes=minutes)
    offset = min(local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return (local - offset).replace(tzinfo=UTC)


def quiet_times(windows, zone, first, last):
    """Intervals, merged where they touch."""
    times = []
    day = first
    while day <= last:
        for days, begin, end in windows:
            if day.weekday() in days:
                begin, end = (0, 24 * 60) if begin is None else (begin, end)
                end += 24 * 60 if end <= begin else 0
                times.append((instant(day, begin, zone), instant(day, end, zone)))
        day += DAY
    merged = []
    for begin, end in sorted(t for t in times if t[0] < t[1]):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def clock(minutes):
    return 'NULL' if minutes is None else "'%02d:%02d'" % divmod(minutes, 60)


def main():
    chance = random.Random(int(sys.argv[1]))
    calls = []
    values = []
    for zone_name, changes in ZONES.items():
        zone = ZoneInfo(zone_name)
        for name, windows in SETS.items():
            destination = '%s %s' % (name, zone_name)
            for days, begin, end in windows:
                calls.append("('%s', '%s', %s::time, %s::time, '%s')" % (
                    destination, ','.join(NAMES[d] for d in days), clock(begin), clock(end), zone_name))
            for change in changes:
                sunday = dt.date.fromisoformat(change)
                times = quiet_times(windows, zone, sunday - 12 * DAY, sunday + 12 * DAY)
                middle = dt.datetime.combine(sunday, dt.time(3), UTC)
                instants = [middle + dt.timedelta(minutes=15 * n) for n in range(-120, 120)]
                instants += [middle + dt.timedelta(seconds=chance.randrange(-500000, 500000)) for _ in range(60)]
                for begin, end in times:
                    if abs(begin - middle) < 5 * DAY:
                        instants += [t + dt.timedelta(seconds=s) for t in (begin, end) for s in (-1, 0, 1)]
                for at in instants:
                    until = [end for begin, end in times if begin <= at < end]
                    values.append("('%s', '%s', %s)" % (
                        destination, at.isoformat(), "'%s'" % until[0].isoformat() if until else 'NULL'))
    print(',\n'.join(calls))
    print('--')
    print(',\n'.join(values))


main()
