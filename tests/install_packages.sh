#!/bin/sh
# Prepares what the tests need from the system's packages, where apt may be used: its lists, from which recordings of
# people are downloaded, Chromium and Node.js for the tests of the page, and PostgreSQL, of which the tests start a
# cluster of their own. Tests that go without skip, except on CI, where they fail.
set -eu

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
has_lists() { ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; }

missing=""
command -v chromium >/dev/null || missing="$missing chromium"
command -v node >/dev/null || missing="$missing nodejs"
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@" >/dev/null; }

if can_install && { [ -n "$missing" ] || ! has_lists; }; then
    apt update || echo "apt-get update failed" >&2
fi
[ -z "$missing" ] && exit 0
# shellcheck disable=SC2086 -- a list of packages
if can_install && apt install -y --no-install-recommends $missing; then
    exit 0
fi
echo "not installed, and not to be installed here:$missing; the tests that need them will skip" >&2
