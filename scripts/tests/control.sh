#!/usr/bin/env bash
# The control directory: hidden, readable with everything, and its orders report their errors.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
cd "$MNT"
echo x >file
same "not listed" file "$(ls -A)"
[ -z "$(find . -name '.bitkv*')" ] || fail "find meets it"
grep -q '^bitkv [0-9.]* format 1$' .bitkv/version || fail "version: $(cat .bitkv/version)"
same health ok "$(cat .bitkv/health)"
for name in uptime_seconds files directories keys keydir_bytes bytes_per_key live_bytes dead_bytes total_bytes \
    reserve_bytes puts gets misses deletes bytes_written bytes_read write_amplification fsyncs sync_rounds fsync_p50_us \
    fsync_p99_us compactions compaction_failures compaction_bytes_reclaimed segments_removed rotations crc_errors \
    torn_tail_bytes recovery_ms recovery_keys cleanup_failures last_number settled stable; do
    value=$(stat_of "$name")
    [[ $value =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "stats has no number for $name: '$value'"
done
same files 1 "$(stat_of files)"
python3 -c 'import json,sys; json.load(open(".bitkv/stats.json"))'
same "head -c" "bitkv" "$(head -c 5 .bitkv/version)"
[ -n "$(tail -n 1 .bitkv/stats)" ] || fail "tail shows nothing"
cp .bitkv/stats "$WORK/stats" && [ -s "$WORK/stats" ] || fail "cp"
[ "$(stat -c %s .bitkv/stats)" -gt 100 ] || fail "no true size"
[ "$(ls .bitkv | wc -l)" -ge 8 ] || fail "ls shows: $(ls .bitkv)"
head -n 1 .bitkv/partitions | grep -q '^id.keys.keydir_bytes.queue_depth' || fail "partitions"
head -n 1 .bitkv/segments | grep -q '^partition.segment.state.keys.live_bytes.dead_bytes.total_bytes.dead_ratio$' || fail "segments"
if (echo nonsense >.bitkv/compact) 2>/dev/null; then fail "a wrong order is taken"; fi
if (echo partition=99 >.bitkv/compact) 2>/dev/null; then fail "a wrong partition is taken"; fi
echo all wait >.bitkv/compact
echo 1 >.bitkv/sync
same "everything is stable" "$(stat_of last_number)" "$(stat_of stable)"
if (echo x >.bitkv/new) 2>/dev/null; then fail "a file can be made in it"; fi
if mkdir .bitkv/dir 2>/dev/null; then fail "a directory can be made in it"; fi
if rm .bitkv/version 2>/dev/null; then fail "a control file can be removed"; fi
if mv file .bitkv 2>/dev/null; then fail "something can be moved there"; fi
if (echo x >.bitkv/version) 2>/dev/null; then fail "what is only shown can be written"; fi
cd /
same "umount says nothing" "" "$(unmount_store 2>&1)"
