#!/usr/bin/env bash
# The control directory: hidden, readable with everything, and its orders report their errors.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
mount_store
cd "$MNT"
echo x >file
same "not listed" file "$(ls -A)"
[ -z "$(find . -name '.bitkv*')" ] || fail "find meets it"
same "tar doesn't meet it" $'./\n./file' "$(tar -cf - . | tar -tf - | LC_ALL=C sort)"
same "a directory" "directory 500" "$(stat -c '%F %a' .bitkv)"
same "its owner" "$(id -u)" "$(stat -c %u .bitkv)"
for name in version health stats stats.json partitions segments config errors compact sync; do
    find .bitkv -maxdepth 1 -name "$name" | grep -q . || fail "$name isn't listed in .bitkv"
    case $(stat -c %a ".bitkv/$name") in
        400 | 600) cat ".bitkv/$name" >/dev/null || fail "$name can't be read" ;;
        200) ;;
        *) fail "permissions of $name: $(stat -c %a ".bitkv/$name")" ;;
    esac
done
grep -qx 'bitkv [0-9.]* format 1' .bitkv/version || fail "version: $(cat .bitkv/version)"
same health ok "$(cat .bitkv/health)"
names="uptime_seconds files directories keys keydir_bytes bytes_per_key live_bytes dead_bytes total_bytes reserve_bytes puts gets
    misses deletes bytes_written bytes_read write_amplification fsyncs sync_rounds fsync_p50_us fsync_p99_us compactions
    compaction_failures compaction_bytes_reclaimed segments_removed rotations crc_errors torn_tail_bytes recovery_ms recovery_keys
    cleanup_failures last_number settled stable"
for name in $names; do
    value=$(stat_of "$name")
    [[ $value =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "stats has no number for $name: '$value'"
done
# shellcheck disable=SC2086 # a list of words
python3 - $names <<'PY'
import json, sys
numbers = json.load(open(".bitkv/stats.json"))
missing = [n for n in sys.argv[1:] if not isinstance(numbers.get(n), (int, float))]
assert not missing, f"stats.json has no number for {missing}"
PY

# Numbers that move with what happens.
same files 1 "$(stat_of files)"
puts=$(stat_of puts)
fsyncs=$(stat_of fsyncs)
keys=$(stat_of keys)
for i in 1 2 3; do echo "$i" >"new$i"; done
sync new1
same "files after three more" 4 "$(stat_of files)"
[ "$(stat_of puts)" -ge $((puts + 3)) ] || fail "puts don't count"
[ "$(stat_of keys)" -ge $((keys + 3)) ] || fail "keys don't count"
[ "$(stat_of fsyncs)" -gt "$fsyncs" ] || fail "fsyncs don't count"

# Each open shows one moment, with its true size, to every tool.
same "head -c" bitkv "$(head -c 5 .bitkv/version)"
same "tail" stable "$(tail -n 100 .bitkv/stats | awk -F: '$1 == "stable" { print $1 }')"
cp .bitkv/stats "$WORK/stats"
grep -q '^last_number: ' "$WORK/stats" || fail "cp copied $(wc -c <"$WORK/stats") bytes"
python3 - <<'PY'
import os
# Two readers at once: each goes on in its own moment.
a, b = (os.open(".bitkv/stats", os.O_RDONLY) for _ in range(2))
for f in (a, b):
    size = os.fstat(f).st_size
    first = os.read(f, 10)
    open("more", "a").write("something changes")
    rest = b"".join(iter(lambda: os.read(f, 100), b""))
    assert len(first + rest) == size > 100, (len(first + rest), size)
    assert (first + rest).endswith(b"\n") and all(b": " in line for line in (first + rest).splitlines())
PY
head -n 1 .bitkv/partitions | grep -qP '^id\tkeys\tkeydir_bytes\tqueue_depth\tops\tp50_us\tp99_us\tlive_bytes\tdead_bytes\tsegments\tunsynced_bytes$' ||
    flaw "partitions: $(head -n 1 .bitkv/partitions)"
head -n 1 .bitkv/segments | grep -qP '^partition\tsegment\tstate\tkeys\tlive_bytes\tdead_bytes\ttotal_bytes\tdead_ratio$' ||
    fail "segments: $(head -n 1 .bitkv/segments)"
same "keys by partition are all keys" "$(stat_of keys)" "$(awk -F'\t' 'NR > 1 { sum += $2 } END { print sum }' .bitkv/partitions)"
same "partitions have ids from 0" 0 "$(awk -F'\t' 'NR == 2 { print $1 }' .bitkv/partitions)"

# Orders. The write itself fails, so that `echo ... || handle` works.
order() { bash -c 'echo "$1" >"$2"' - "$1" "$MNT/.bitkv/$2"; }
refused "a wrong order" order nonsense compact
[[ $message == *"Invalid argument"* ]] || fail "a wrong order: $message"
refused "an order that goes on wrongly" order "all nonsense" compact
refused "a wrong partition" order partition=99 compact
order "all wait" compact
order "partition=0 wait" compact
for _ in 1 2 3; do echo "$RANDOM" >file; done
order 1 sync
[ "$(stat_of stable)" -ge 1 ] || fail "nothing is stable after a sync"
same "everything is stable" "$(stat_of last_number)" "$(stat_of stable)"
refused "a new file in it" touch .bitkv/new
refused "a new directory in it" mkdir .bitkv/dir
refused "removing a control file" rm .bitkv/version
refused "removing it" rmdir .bitkv
refused "moving something there" mv file .bitkv/
refused "moving it" mv .bitkv moved
refused "moving something over it" mv -T file .bitkv
refused "a link of it" ln .bitkv/version linked
refused "other permissions" chmod 777 .bitkv/version
refused "writing what is only shown" order x version
# Below the root the name is anybody's.
mkdir -p sub/.bitkv
echo mine >sub/.bitkv/stats
same "the name elsewhere" mine "$(cat sub/.bitkv/stats)"
cd /
same "umount says nothing" "" "$(unmount_store 2>&1)"
