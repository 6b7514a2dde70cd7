"""Checks standard input against Prometheus' text format 0.0.4, strictly; prints each sample as `name{labels} value`.

By the format's own rules, and by the house's: every family has HELP and TYPE once, before its samples, which stand together; counters end in
_total; no unit but base units; no label holds a path; histograms are cumulative and complete.
"""

import math
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
text = sys.stdin.read()
assert text.endswith("\n"), "the last line has no end"
families, order, samples = {}, [], {}
for line in text.splitlines():
    if line.startswith("# HELP "):
        name, words = line[7:].split(" ", 1)
        assert name not in families and words, line
        families[name] = {"help": words}
        order.append(name)
    elif line.startswith("# TYPE "):
        name, kind = line[7:].split(" ")
        assert order and order[-1] == name and "type" not in families[name], line
        assert kind in ("counter", "gauge", "histogram"), line
        assert (kind == "counter") == name.endswith("_total"), line
        families[name]["type"] = kind
    else:
        found = SAMPLE.fullmatch(line)
        assert found, line
        name, labels, value = found.groups()
        family = order[-1]
        suffix = name.removeprefix(family)
        assert name.startswith(family) and name.startswith("bitkv_"), line
        assert suffix in (("_bucket", "_sum", "_count") if families[family]["type"] == "histogram" else ("",)), line
        parsed = {}
        at = 0
        while labels and at < len(labels):
            label = LABEL.match(labels, at)
            assert label and label[1] not in parsed, line
            assert "/" not in label[2], f"a path in a label: {line}"
            parsed[label[1]] = label[2]
            at = label.end()
        number = float(value)
        assert not math.isnan(number) and number >= 0, line
        key = (name, tuple(sorted(parsed.items())))
        assert key not in samples, f"twice: {line}"
        samples[key] = number
        print(f"{name}{{{labels or ''}}} {value}")
for name, family in families.items():
    assert "type" in family, name
    assert any(key[0].startswith(name) for key in samples), f"no sample of {name}"
    assert not re.search(r"_(us|ms|ns|kb|mb|kib|mib|percent)(_|$)", name), f"no base unit: {name}"
    if family["type"] != "histogram":
        continue
    groups = {}
    for (sample, labels), value in samples.items():
        if sample == name + "_bucket":
            rest = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(rest, []).append((float(dict(labels)["le"]), value))
    assert groups, name
    for rest, buckets in groups.items():
        buckets.sort()
        counts = [count for _, count in buckets]
        assert counts == sorted(counts), f"not cumulative: {name}{rest}"
        assert buckets[-1][0] == math.inf, f"no +Inf: {name}{rest}"
        assert counts[-1] == samples[(name + "_count", rest)], f"+Inf is not the count: {name}{rest}"
        assert (name + "_sum", rest) in samples, f"no sum: {name}{rest}"
