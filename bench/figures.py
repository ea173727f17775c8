#!/usr/bin/env python3
"""From what the programs printed to figures, and from figures to a table.

SPDX-License-Identifier: BSD-3-Clause
Copyright (c) 2026 The LPM authors

usage: figures.py steady DIRECTORY BTL KIND NAME BASELINE
       figures.py stall BTL MOVER GAPS WINDOWS MOVES
       figures.py drain BTL MOVES.BTL.LOAD...
       figures.py third BTL PENDING OUTPUT
       figures.py blackout NAME
       figures.py growth FIGURES
       figures.py fill NAME PUMP
       figures.py faults NAME PUMP
       figures.py table FILE

All but the last print one JSON object per line. NAME is the beginning of names of files; it ends in MIB.PAGES.USE.
"""
import glob
import json
import os
import re
import sys
from statistics import median


def quantile(values, q):
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def spread(values):
    """The interquartile range."""
    return quantile(values, 0.75) - quantile(values, 0.25)


def short(value):
    return None if value is None else float("%.4g" % value)


def ratio(a, b):
    return a / b if a is not None and b else None


def emit(**figure):
    for key, value in figure.items():
        if isinstance(value, float):
            figure[key] = short(value) if "ratio" not in key and key not in ("spread", "control") else round(value, 4)
    print(json.dumps(figure))


# ---------------------------------------------------------------------- steady

FIGURE = re.compile(r"^pingpong: figure bytes=(\d+) best=(\S+) median=(\S+) unit=(\S+) more=(\d) name=(.*)$")


def read_pingpong(path):
    """{(metric, bytes, unit): best batch}"""
    with open(path) as lines:
        found = (FIGURE.match(line) for line in lines)
        return {(f[6], int(f[1]), f[4]): float(f[2]) for f in found if f}


def steady(directory, btl, kind, name, baseline):
    """One figure per metric: ratios are taken within each repeat, their median counts."""
    sides = {}
    for side in "subject", "base", "again":
        paths = glob.glob(os.path.join(directory, "%s.%s.%s.*.out" % (btl, kind, side)))
        sides[side] = {path.split(".")[-2]: read_pingpong(path) for path in paths}
    repeats = sorted(sides["base"], key=int)
    for key in sides["base"][repeats[0]]:
        value = {side: [sides[side][r][key] for r in repeats] for side in sides}
        ratios = [a / b for a, b in zip(value["subject"], value["base"])]
        # the baseline has two launches per repeat: both tell about noise
        control = [a / b for a, b in zip(value["again"], value["base"])]
        emit(bench=name, metric=key[0], bytes=key[1], btl=btl, unit=key[2],
             lpm=median(value["subject"]), baseline=median(value["base"]), baseline_name=baseline,
             ratio=median(ratios), spread=spread(ratios), control=median(control), control_spread=spread(control),
             repeats=len(repeats))


# ----------------------------------------------------------------------- stall

GAP = re.compile(r"^stall: gap rank=(\d+) peer=(\d+) end=(\S+) us=(\S+)$")


def read_gaps(prefix):
    """{(rank, peer): [(begin, end)]} in seconds"""
    gaps = {}
    for path in glob.glob(prefix + ".*"):
        with open(path) as lines:
            matches = [GAP.match(line) for line in lines]
        for found in matches:
            end = float(found[3])
            gaps.setdefault((int(found[1]), int(found[2])), []).append((end - float(found[4]) / 1e6, end))
    return gaps


def read_moves(path):
    """The last answers of ompi-migrate --json, one per line."""
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def role_of(rank, peer, mover, channels):
    if rank == mover:
        return "the mover"
    if peer == mover:
        return "a peer, with the mover"
    if (rank, mover) in channels:
        return "a peer, with another rank"
    if (peer, mover) in channels:
        return "the other rank, with the peer"
    return "uninvolved"


def longest(gaps, window):
    """The longest gap that has a part in the window, in milliseconds."""
    return max((end - begin for begin, end in gaps if begin < window[1] and end > window[0]), default=0) * 1e3


def stall(btl, mover, prefix, windows, moves):
    """One figure per role: the longest gap of its ranks in each window; with moves, and without."""
    gaps = read_gaps(prefix)
    roles = {}
    for channel in gaps:
        roles.setdefault(role_of(*channel, int(mover), gaps), []).extend(gaps[channel])
    times = {"move": [], "quiet": []}
    with open(windows) as lines:
        for name, begin, end in map(str.split, lines):
            times[name].append((float(begin), float(end)))
    for role in sorted(roles):
        value = {name: [longest(roles[role], window) for window in times[name]] for name in times}
        emit(bench="stall", metric="longest gap", role=role, btl=btl, unit="ms",
             lpm=median(value["move"]), max=max(value["move"]), baseline=median(value["quiet"]),
             baseline_max=max(value["quiet"]), baseline_name="no move",
             ratio=ratio(median(value["move"]), median(value["quiet"])), spread=spread(value["move"]),
             repeats=len(value["move"]))
    blackouts = [move["blackout_ms"] for move in read_moves(moves)]
    emit(bench="stall", metric="blackout", role="the mover", btl=btl, unit="ms", lpm=median(blackouts),
         max=max(blackouts), baseline=None, baseline_name="no move", ratio=None, spread=spread(blackouts),
         repeats=len(blackouts))


# ----------------------------------------------------------------------- drain

# What answers may tell of a channel, and of a rank: what we call it, its unit, the names it may have there, and what of
# all channels or ranks of a move counts (each one where there is nothing).
OF_CHANNELS = [
    ("time to drain, a channel", "ms", ("drain_ms", "ms"), None),
    ("time to drain, slowest channel", "ms", ("drain_ms", "ms"), max),
    ("fragments to send at the hold", "1", ("fragments", "queued"), sum),
    ("fragments received until empty", "1", ("received",), sum),
]
OF_RANKS = [
    ("messages queued while held", "1", ("queued_messages",), sum),
    ("bytes queued while held", "bytes", ("queued_bytes",), sum),
    ("refusals of the gate", "1", ("refused",), sum),
    ("time held, longest", "ms", ("held_ms",), max),
]


def channels_of(move, btl):
    """Channels of this kind; where they are not told apart, what the ranks say that have any."""
    answers = [answer for answer in move.get("channels", []) if isinstance(answer, dict)]
    channels = [channel for answer in answers for channel in answer.get("channels", [])]
    if not channels:
        channels = [answer for answer in answers if answer.get("event") == "drained" and answer.get("connections")]
    return [channel for channel in channels if channel.get("btl", btl) == btl]


def ranks_of(move):
    """What the ranks with a channel to empty say at the end of their hold."""
    answers = [answer for answer in move.get("channels", []) if isinstance(answer, dict)]
    involved = {answer.get("rank") for answer in answers if answer.get("channels") or answer.get("connections")}
    return [answer for answer in answers if "held_ms" in answer and answer.get("rank") in involved]


def values_of(nodes, names):
    """All numbers under the first of these names that there is."""
    for name in names:
        found = [node[name] for node in nodes if isinstance(node.get(name), (int, float))]
        if found:
            return found
    return []


def per_move(moves, nodes_of, names, what):
    values = []
    for move in moves:
        found = values_of(nodes_of(move), names)
        if found:
            values.extend([what(found)] if what else found)
    return [float(value) for value in values]


def drain(btl, *paths):
    """Figures per load; the first one is what the others are compared with."""
    base = {}
    base_name = paths[0].split(".")[-1]
    known = [(entry, lambda move: channels_of(move, btl)) for entry in OF_CHANNELS]
    known += [(entry, ranks_of) for entry in OF_RANKS]
    for path in paths:
        moves = read_moves(path)
        for (metric, unit, names, what), nodes_of in known:
            values = per_move(moves, nodes_of, names, what)
            if values:
                normal = base.setdefault(metric, values)
                emit(bench="drain", metric=metric, load=path.split(".")[-1], btl=btl, unit=unit, lpm=median(values),
                     max=max(values), baseline=median(normal), baseline_max=max(normal), baseline_name=base_name,
                     ratio=ratio(median(values), median(normal)), repeats=len(moves))


HELD = re.compile(r"^load: (held|free) pending=(\d+) batches=\d+ median=(\S+) quarter=\S+ best=(\S+) "
                  r"seconds=(\S+) posting=(\S+)$")
LASTING = 0.1   # seconds: what was shorter is an answer that was late, not a hold


def read_held(path):
    """[(state, sends pending, median, best, ms to post)] of every hold, and of the times before and after."""
    with open(path) as lines:
        found = [f for f in map(HELD.match, lines) if f]
    return [(f[1], f[2], float(f[3]), float(f[4]), float(f[6]) * 1e3) for f in found
            if f[1] == "free" or float(f[5]) >= LASTING]


def third(btl, pending, output):
    """Latency between a sender and a third party while sends to a held rank are pending."""
    lines = read_held(output)
    load = pending + " sends pending"
    for metric, at in ("latency", 2), ("latency, best batch", 3):
        held = [line[at] for line in lines if line[:2] == ("held", pending)]
        for name, state in ("the same hold, nothing pending", ("held", "0")), ("no move", ("free", "0")):
            base = [line[at] for line in lines if line[:2] == state]
            if held and base:
                emit(bench="third-party", metric=metric, load=load, btl=btl, unit="us",
                     lpm=median(held), max=max(held), baseline=median(base), baseline_max=max(base),
                     baseline_name=name, ratio=ratio(median(held), median(base)), repeats=len(held))
    posting = [line[4] for line in lines if line[:2] == ("held", pending)]
    if posting:
        emit(bench="third-party", metric="time to post", load=load, btl=btl, unit="ms", lpm=median(posting),
             max=max(posting), baseline=None, baseline_name="no move", ratio=None, repeats=len(posting))


# ---------------------------------------------------------------------- memory

NOTE = re.compile(r"^memory: (gap|touch) end=(\S+) us=(\S+)$")


def memory_of(name):
    mib, pages, use = os.path.basename(name).split(".")
    return {"rss_mib": int(mib), "pages": pages, "use": use}


def read_windows(name):
    """{who moved: [(begin, end)]}"""
    times = {}
    with open(name + ".windows") as lines:
        for who, begin, end in map(str.split, lines):
            times.setdefault(who, []).append((float(begin), float(end)))
    return times


def read_notes(path, kind):
    """[(begin, end)] in seconds"""
    if not os.path.exists(path):
        return []       # of what could not be measured
    with open(path) as lines:
        found = [f for f in map(NOTE.match, lines) if f and f[1] == kind]
    return [(float(f[2]) - float(f[3]) / 1e6, float(f[2])) for f in found]


def compare(bench, metric, memory, unit, lpm, base, base_name):
    """One figure: medians over the repeats; None where there is nothing."""
    if lpm:
        base_median = median(base) if base else None
        emit(bench=bench, metric=metric, unit=unit, **memory, lpm=float(median(lpm)), max=float(max(lpm)),
             baseline=base_median, baseline_max=max(base) if base else None, baseline_name=base_name,
             ratio=ratio(float(median(lpm)), base_median), spread=float(spread(lpm)), repeats=len(lpm))


STOCK = {"lazy": "lazy", "eager": "eager", "server": "page server"}


def blackout(name):
    """The longest gap that each move made, of the rank and of the processes that stock criu has moved."""
    memory = memory_of(name)
    times = read_windows(name)
    gaps = {}
    for who in ("lpm", *STOCK):
        notes = read_notes("%s.%s" % (name, who), "gap")
        gaps[who] = [longest(notes, window) for window in times.get(who, [])] if notes else []
    for who in STOCK:
        compare("blackout", "longest gap", memory, "ms", gaps["lpm"], gaps[who], "stock criu, " + STOCK[who])
    compare("blackout", "blackout", memory, "ms", [move["blackout_ms"] for move in read_moves(name + ".moves")], [],
            "none")


def growth(path):
    """What each GiB more costs, from 1 to 4, where both have been measured."""
    with open(path) as lines:
        rows = [row for row in map(json.loads, lines) if row.get("metric") == "longest gap"]
    for row in rows:
        more = [other for other in rows if (row["rss_mib"], other["rss_mib"]) == (1024, 4096) and
                all(row[key] == other[key] for key in ("pages", "use", "baseline_name"))]
        if more:
            lpm, base = [None if None in (row[side], more[0][side]) else (more[0][side] - row[side]) / 3
                         for side in ("lpm", "baseline")]
            emit(bench="blackout", metric="growth", unit="ms/GiB", rss_mib="1024-4096", pages=row["pages"],
                 use=row["use"], lpm=lpm, baseline=base, baseline_name=row["baseline_name"], ratio=ratio(lpm, base))


def pages_of(name):
    """What the answers of the moves tell of pages that came later; nothing did where all came at once."""
    told = [move.get("pages") or {} for move in read_moves(name + ".moves")]
    return [pages for pages in told if pages.get("fill_ms")]


STREAM = re.compile(r"^pump: stream bytes=(\d+) ms=(\S+)$")


def fill(name, pump):
    """Time and rate; a megabyte has a million bytes."""
    memory = memory_of(name)
    with open(pump) as lines:
        base = [(int(f[1]), float(f[2])) for f in map(STREAM.match, lines) if f]
    lpm = [(pages["stream_bytes"] + pages["fault_bytes"], pages["fill_ms"]) for pages in pages_of(name)]
    compare("fill", "time to fill", memory, "ms", [ms for _, ms in lpm], [ms for _, ms in base], "bench/pump")
    compare("fill", "rate", memory, "MB/s", [n / ms / 1e3 for n, ms in lpm], [n / ms / 1e3 for n, ms in base],
            "bench/pump")


FAULT = re.compile(r"^pump: fault served=(\S+) touched=(\S+)$")


def per_move_quantile(name, q):
    """Of the touches that waited after the mover had stood still, of each move that had any."""
    gaps = read_notes(name + ".lpm", "gap")
    touches = read_notes(name + ".lpm", "touch")
    moves = []
    for window in read_windows(name).get("lpm", []):
        length, begin = max((b - a, a) for a, b in gaps if a < window[1] and b > window[0])
        since = begin + length / 2      # the gap ends with an exchange of messages, after the first touches
        moves.append([(b - a) * 1e6 for a, b in touches if since < a and b < window[1]])
    return [quantile(move, q) for move in moves if move]


def faults(name, pump):
    """As the pager sees it, and as the thread does that touches."""
    memory = memory_of(name)
    with open(pump) as lines:
        base = [f for f in map(FAULT.match, lines) if f]
    told = [pages for pages in pages_of(name) if pages["fault_pages"]]
    for text, q in ("p50", 0.5), ("p99", 0.99):
        compare("faults", "fault " + text, memory, "us", [pages["fault_%s_us" % text] for pages in told],
                [quantile([float(f[1]) for f in base], q)], "bench/pump")
    for text, q in ("p50", 0.5), ("p99", 0.99):
        compare("faults", "touch " + text, memory, "us", per_move_quantile(name, q),
                [quantile([float(f[2]) for f in base], q)], "bench/pump")
    compare("faults", "faults", memory, "1", [pages["faults"] for pages in told], [len(base)], "bench/pump")


# ---------------------------------------------------------------------- tables

COLUMNS = {
    "rss_mib": "MiB", "pages": "pages", "use": "use", "btl": "btl", "load": "load", "role": "who", "metric": "what", "bytes": "bytes", "unit": "unit",
    "lpm": "with LPM", "max": "max", "baseline": "baseline", "baseline_max": "its max", "baseline_name": "baseline is",
    "ratio": "ratio", "spread": "IQR", "control": "A/A", "control_spread": "A/A IQR", "repeats": "repeats",
}


def cell(value):
    if value is None:
        return "-"
    return "%.4g" % value if isinstance(value, float) else str(value)


def print_table(rows):
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    heads = dict(COLUMNS)
    names = {row["baseline_name"] for row in rows}
    if len(names) == 1:     # then it can be the head of the column
        heads["baseline"] = names.pop()
        keys.remove("baseline_name")
    print("| %s |\n|%s" % (" | ".join(heads[key] for key in keys), " --- |" * len(keys)))
    for row in rows:
        print("| %s |" % " | ".join(cell(row.get(key)) for key in keys))
    print()


def table(path):
    benches = {}
    with open(path) as lines:
        for row in map(json.loads, lines):
            benches.setdefault(row["bench"], []).append(row)
    for rows in benches.values():
        print_table(rows)


if __name__ == "__main__":
    COMMANDS = {"steady": steady, "stall": stall, "drain": drain, "third": third, "blackout": blackout,
                "growth": growth, "fill": fill, "faults": faults, "table": table}
    COMMANDS[sys.argv[1]](*sys.argv[2:])
