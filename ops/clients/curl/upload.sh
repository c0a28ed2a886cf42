#!/usr/bin/env bash
# Uploads files to a longshore server with curl and jq.
#
#   upload.sh --order NUMBER | --style NUMBER  FILE...
#   upload.sh --order NUMBER | --style NUMBER  --folder FOLDER    all files below it, under one signed form
#
# --sha256 HEX says which hash the one FILE must have. LONGSHORE_SERVER and LONGSHORE_TOKEN come from the environment.
#
# Every step ends in `|| return`, because bash forgets `set -e` in whatever stands before `||` or behind `if`.
set -euo pipefail

SERVER="${LONGSHORE_SERVER:-http://127.0.0.1:8080}"
# Waits 1, 2, 4, ... seconds between tries, or as long as the server asks for by Retry-After.
# However large a file is: a line on which nothing moves for 90 s is dead.
PATIENTLY=(--silent --connect-timeout 10 --speed-limit 1 --speed-time "${LONGSHORE_SILENCE:-90}" --retry 5 --retry-connrefused --retry-all-errors)
JSON=(--header 'Content-Type: application/json' --data-binary @-)
# What curl was answered last.
ANSWER="$(mktemp)"
trap 'rm -f "$ANSWER"' EXIT

main() {
    local kind='' number='' folder='' failed=0
    hash=''
    while [ $# -gt 0 ]; do
        case "$1" in
        --order | --style | --folder | --sha256) [ -n "${2:-}" ] || usage "$1 needs a value" ;;&
        --order | --style) kind="${1#--}" number="$2"; shift 2 ;;
        --folder) folder="$2"; shift 2 ;;
        --sha256) hash="$2"; shift 2 ;;
        --) shift; break ;;
        -*) usage "there is no $1" ;;
        *) break ;;
        esac
    done
    [ -n "$kind" ] || usage "say --order NUMBER or --style NUMBER, before the files"
    [ -n "${LONGSHORE_TOKEN:-}" ] || usage "set LONGSHORE_TOKEN to an API token (lsk_...)"
    [ -n "$folder" ] || [ $# -gt 0 ] || usage "no file is given"
    [ -z "$hash" ] || [ $# = 1 ] || usage "--sha256 is for one file"
    target="$(jq -nc --arg kind "$kind" --arg number "$number" '{$kind, $number}')"

    if [ -n "$folder" ]; then
        upload_folder "$folder" || exit 1
        return
    fi
    for file in "$@"; do
        upload "$file" || { complain "failed $file"; failed=1; }
    done
    exit "$failed"
}

usage() {
    complain "upload.sh: $*"
    sed -n '4,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

complain() { printf '%s\n' "$*" >&2; }

# ---- One file's way

upload() {
    local file="$1" id sent=''
    [ -f "$file" ] && [ -r "$file" ] || { complain "$file is not a file that can be read"; return 1; }
    ask_for "$file" || return
    id="$(first .id)"
    # At most 100 steps: the longest of them waits 20 s.
    for _ in {1..100}; do
        case "$(first .status)" in
        done) report "$file"; return ;;
        rejected | cancelled) complain "the upload ended $(first .status): $(first '.reason // "no reason given"')"; return 1 ;;
        expired) sent=''; renew "$id" || return ;;
        requested | issued) step "$file" "$id" || return ;;
        *) settled "$id" || return ;;
        esac
    done
    complain "it is still $(first .status); look later at $SERVER/api/uploads/$id"
    return 1
}

# The `ref` makes asking twice give the same upload, the `sha256` spares the way of bytes that the server has. The
# Idempotency-Key says the same of a request whose answer got lost.
ask_for() {
    local sha256 ref name="${1##*/}"
    sha256="${hash:-$(sha256sum <"$1" | cut -d' ' -f1)}"
    ref="$(printf '%s %s %s' "$sha256" "$target" "$name" | sha256sum | cut -d' ' -f1)"
    jq -n --arg filename "$name" --argjson size "$(wc -c <"$1")" --arg sha256 "$sha256" --arg ref "$ref" \
        --argjson target "$target" '{$filename, $size, $sha256, $ref, $target}' |
        api POST /api/uploads "${JSON[@]}" --header 'Prefer: wait=10' --header "Idempotency-Key: $(random)"
}

# step FILE ID: what brings an upload further whose file the server has not seen.
step() {
    if [ -n "$sent" ]; then
        settled "$2"
    elif [ "$(first .upload)" = null ]; then
        sleep 1 # its form is about to be signed
        api GET "/api/uploads/$2"
    elif post_form "$1" "$(first .upload)"; then
        sent=yes
        api POST "/api/uploads/$2/callback" && settled "$2"
    else
        [ $? = 3 ] && renew "$2"
    fi
}

# The upload once it has ended, or as it is after 20 s.
settled() { api GET "/api/uploads/$1" --header 'Prefer: wait=20'; }

renew() { api POST "/api/uploads/$1/policy" --header 'Prefer: wait=10'; }

report() {
    first '"done   \($file)  file \(.fileId)  \(.hash)\(if .deduplicated then "  (these bytes were known)" else "" end)"' --arg file "$1"
}

# ---- A folder's way

# One signed form lets any number of files in below one prefix; the manifest says which hash each must have.
upload_folder() {
    local batch form manifest path
    cd "$1" || return
    manifest="$(find . -type f -exec sha256sum {} +)" || return
    [ -n "$manifest" ] || { complain "there are no files in $1"; return 1; }
    jq -n --argjson maxFiles "$(wc -l <<<"$manifest")" --argjson maxFileSize "$(largest)" --argjson target "$target" \
        '{mode: "prefix", $maxFiles, $maxFileSize, $target}' |
        api POST /api/batches "${JSON[@]}" --header "Idempotency-Key: $(random)" || return
    batch="/api/batches/$(first .id)"
    form="$(first .upload)"
    api PUT "$batch/manifest" --header 'Content-Type: text/plain' --data-binary @- <<<"$manifest" || return
    while IFS= read -r -d '' path; do
        post_into "$batch" "${path#./}" || return
    done < <(find . -type f -print0)
    api POST "$batch/callback" || return
    settle "$batch"
}

largest() { find . -type f -printf '%s\n' | sort -n | tail -n 1; }

# Posts one file under the batch's form, with a fresh one if its time has run out.
post_into() {
    for _ in 1 2 3; do
        post_form "$2" "$(jq --arg path "$2" '.fields.key |= (rtrimstr("${filename}") + $path)' <<<"$form")" && return
        [ $? = 3 ] || return 1
        api POST "$1/policy" || return
        form="$(first .upload)"
    done
    return 1
}

settle() {
    local id="${1##*/}"
    api GET "$1" --header 'Prefer: wait=20' || return
    while [ "$(first '.taskStatusPending + .taskStatusRunning')" != 0 ]; do
        first '"\(.progress * 100 | floor) % checked"'
        api GET "$1" --header 'Prefer: wait=20' || return
    done
    first '"done   \(.taskResultSuccesses) of \(.taskCount) files, batch \(.id)"'
    [ "$(first .taskResultFailures)" = 0 ] && return
    api GET "$1/uploads?status=rejected" --header 'Accept: application/x-ndjson' || return
    jq -r '"failed \(.filename): \(.reason)"' "$ANSWER" >&2
    return 1
}

# ---- Calls

# api METHOD PATH [OPTION...]: one call, its answer in $ANSWER. The token is handed over in a file, since any user of this
# machine may read the command lines of the others.
api() {
    local method="$1" path="$2" status
    shift 2
    request --max-time 90 --request "$method" \
        --config <(printf 'header = "Authorization: Bearer %s"\n' "$LONGSHORE_TOKEN") \
        "$@" "$SERVER$path" || return
    [ "$status" -lt 300 ] && return
    # It has moved on by itself, which is no fault: go on with what it is now.
    if [ "$status" = 409 ] && [[ "$path" == */policy ]]; then
        api GET "${path%/policy}"
        return
    fi
    complain "$(jq -r '.error.message' "$ANSWER" 2>/dev/null || echo "$SERVER does not answer as longshore would") (HTTP $status)"
    return 1
}

# post_form FILE FORM: posts the file to the bucket. 3 if the form's time had run out.
post_form() {
    local status message
    # Fields first, the file last. curl reads it piece by piece.
    request --config <(jq -r '.fields | to_entries[] | "form-string = " + ("\(.key)=\(.value)" | @json)' <<<"$2") \
        --form 'file=@-;filename=file' "$(jq -r .url <<<"$2")" <"$1" || return 1
    [ "$status" -lt 300 ] && return
    message="$(sed -n 's/.*<Message>\([^<]*\).*/\1/p' "$ANSWER")"
    if [ "$status" = 403 ] && [[ "$message" == *[Ee]xpired* ]]; then
        return 3
    fi
    complain "the bucket refused it: ${message:-no reason given} (HTTP $status)"
    return 1
}

# request OPTION...: runs curl, which sets $status; its last word if it got no answer.
request() {
    local said
    said="$(curl "${PATIENTLY[@]}" --output "$ANSWER" --write-out '%{http_code} %{errormsg}' "$@")" || {
        complain "${said#* }"
        return 1
    }
    status="${said%% *}"
}

# first FILTER [OPTION...]: of the upload or batch in the last answer.
first() {
    local filter="$1"
    shift
    jq -r "$@" "(.uploads // .batches)[0] | $filter" "$ANSWER"
}

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

main "$@"
