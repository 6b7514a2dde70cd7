#!/usr/bin/env bash
# The face of both programs: exit codes, one-line errors, --json that parses, mount options in all spellings, mount(8)'s helpers.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
mount_store
echo x >"$MNT/file"
parses() { python3 -c 'import json, sys; json.load(sys.stdin)' || fail "$* is no JSON"; }
for words in "status $MNT" "status $DATA" status "stats $MNT" "ls $MNT" "stat $MNT/file" "info $MNT/file"; do
    # shellcheck disable=SC2086 # words
    set -- $words
    "$BITKV" "$1" --json "${@:2}" | parses "$words"
done
same "status --json" "True ok" "$("$BITKV" status --json "$MNT" | python3 -c 'import json, sys; s = json.load(sys.stdin)[0]; print(s["mounted"], s["health"])')"

# Live views print once where nobody can see them change.
"$BITKV" top --interval 200ms "$MNT" >"$WORK/top"
grep -q '^files 1 ' "$WORK/top" || fail "top: $(cat "$WORK/top")"
same "rows of partitions" "$(($(wc -l <"$MNT/.bitkv/partitions") - 1))" "$(sed '1,/^partition/d' "$WORK/top" | wc -l)"
if grep -q $'\x1b' "$WORK/top"; then fail "a pipe gets a terminal's signs"; fi
"$BITKV" bench --files 50 --threads 2 "$MNT" >"$WORK/bench"
for name in create stat read overwrite durable rename unlink; do grep -qE "^$name +[0-9]+ +[0-9]+ " "$WORK/bench" || fail "bench: $(cat "$WORK/bench")"; done
"$BITKV" bench --json --files 20 "$WORK" | parses bench
same "bench leaves nothing" file "$(ls -A "$MNT")"
"$BITKV" scrub --wait --rate 0 "$MNT" >/dev/null 2>"$WORK/err" || fail "scrub: $(cat "$WORK/err")"
"$BITKV" compact --wait "$MNT" 2>"$WORK/err" || fail "compact: $(cat "$WORK/err")"

# What shells and readers need.
for shell in bash zsh fish; do
    "$BITKV" completions "$shell" >"$WORK/completions"
    grep -q reshard "$WORK/completions" && grep -q -e segment.size "$WORK/completions" || fail "completions for $shell"
done
"$BITKV" completions bash >"$WORK/completions"
bash -n "$WORK/completions" || fail "completions for bash don't parse"
mkdir "$WORK/man"
"$BITKV" man --all "$WORK/man"
for page in bitkv bitkv-mount bitkv-put bitkv-fsck; do grep -q '^\.TH' "$WORK/man/$page.1" || fail "no page $page"; done
"$BITKV" man bitkv-put | cmp -s - "$WORK/man/bitkv-put.1" || fail "one page by itself"

# Wrong usage is 2, failure is 1, one line each, on standard error.
wrong() { # wrong CODE COMMAND...
    local code=0 expected=$1
    shift
    "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || code=$?
    same "the exit code of ${*#"$TARGET_DIR"/release/}" "$expected" "$code"
    same "lines of ${*#"$TARGET_DIR"/release/}: $(cat "$WORK/err")" 1 "$(wc -l <"$WORK/err")"
    [ ! -s "$WORK/out" ] || flaw "$* writes to standard output"
}
wrong 2 "$BITKV"
wrong 2 "$BITKV" nonsense
wrong 2 "$BITKV" get
wrong 2 "$BITKV" ls --nonsense "$MNT"
wrong 2 "$BITKV" rm -r "$MNT/file"
wrong 2 "$BITKV" man nonsense
wrong 2 "$BITKV" completions nonsense
wrong 2 "$BITKV" load --partitions 0 "$WORK/new"
wrong 2 "$BITKV" export --format zip "$DATA"
wrong 2 "$BITKV" reshard "$DATA" --partitions 3
wrong 2 "$BITKV" bench --threads 0 "$MNT"
wrong 2 "$BITKV_MOUNT" "$DATA"
wrong 1 "$BITKV" get "$MNT/none"
wrong 1 "$BITKV" get "$WORK/none/x"
wrong 1 "$BITKV" top "$WORK"
wrong 1 "$BITKV" bench "$WORK/none"
wrong 1 "$BITKV" status "$WORK/none"
wrong 1 "$BITKV" dump "$WORK" -o "$WORK/new"
wrong 1 "$BITKV" load "$WORK/new" -i "$WORK/none"
wrong 1 "$BITKV" import "$MNT/file" -i "$WORK/err"
wrong 1 "$BITKV" backup "$WORK/none" "$WORK/new"
wrong 1 "$BITKV" accesslog -f "$WORK"
wrong 8 "$BITKV" fsck "$DATA"
grep -q "in use by process" "$WORK/err" || flaw "who has it open isn't told: $(cat "$WORK/err")"
[ ! -e "$WORK/new" ] || flaw "a failure leaves something"
unmount_store
wrong 1 "$BITKV" stats "$DATA"

# Options, as mount(8) and /etc/fstab spell them.
options() { # options LIST: mounts with it
    mount_store -o "$1" || fail "-o $1"
    "$BITKV" umount "$MNT"
    DAEMON=
}
options ro,rw,noatime,relatime,nodev,nosuid,noexec,dev,suid,exec,sync,default_permissions,subtype=bitkv
options defaults,auto,noauto,nofail,_netdev,user,users,owner,group,x-systemd.automount,x-anything=1,comment=words
options sync-interval=2s,sync_interval=2s,segment_size=8M,chunk_size=16K,compact_rate=10M,compact-threshold=0.4,no_auto_compact
options lock_wait=1s,log_level=debug,log_format=json,threads=4,transport=dev,slowlog_threshold=5ms,open_files=100
if [ "$(id -u)" = 0 ]; then options allow_other,auto_unmount; fi
mount_store -o fsname=called,noatime,slowlog-threshold=7ms,compact_rate=11M
grep -q "^called $MNT fuse.bitkv .*noatime" /proc/self/mounts || fail "fsname: $(grep " $MNT " /proc/self/mounts)"
grep -qx slowlog-threshold=7000us "$MNT/.bitkv/config" && grep -qx "compact-rate=$((11 << 20))" "$MNT/.bitkv/config" || fail "options aren't in effect"
unmount_store
for list in rw,frobnicate nonsense=1 segment_size=x sync=never uid=0 umask=022; do
    wrong 2 "$BITKV_MOUNT" -o "$list" "$DATA" "$MNT"
    grep -qF -- "${list#rw,}" "$WORK/err" || grep -qE "segment-size|--sync" "$WORK/err" || flaw "-o $list isn't named: $(cat "$WORK/err")"
done

# As mount(8) and umount(8) call their helpers.
ln -s "$BITKV_MOUNT" "$WORK/mount.fuse.bitkv"
ln -s "$BITKV_MOUNT" "$WORK/mount.bitkv"
ln -s "$BITKV" "$WORK/umount.fuse.bitkv"
for helper in mount.fuse.bitkv mount.bitkv; do
    "$WORK/$helper" "$DATA" "$MNT" -s -v -n -o "rw,nodev,nosuid,noauto,x-systemd.requires=network.target" -t fuse.bitkv || fail "$helper"
    DAEMON=$(cat "$DATA/LOCK")
    same "through $helper" x "$(cat "$MNT/file")"
    "$WORK/$helper" "$DATA" "$WORK/none" -f -o rw || fail "$helper -f does more than to pretend"
    if [ "$(id -u)" = 0 ]; then
        "$WORK/$helper" "$DATA" "$MNT" -o remount,ro || fail "remount"
        refused "a change after a remount" touch "$MNT/new"
    fi
    "$WORK/umount.fuse.bitkv" "$MNT" -n || fail "umount.fuse.bitkv"
    if is_alive "$DAEMON"; then fail "umount.fuse.bitkv doesn't wait"; fi
    DAEMON=
done
wrong 1 "$WORK/umount.fuse.bitkv" "$MNT"
[ "$FLAWS" = 0 ] || fail "$FLAWS flaws"
