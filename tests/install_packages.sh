#!/bin/sh
# Prepares what the tests need from the system's packages, where apt may be used: its lists, from which recordings of
# people are downloaded, and Chromium for the tests of the page. Tests that go without skip, except on CI, where they fail.
set -eu

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
has_lists() { ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; }

if can_install && ! { has_lists && command -v chromium >/dev/null; }; then
    apt-get update -qq >/dev/null || echo "apt-get update failed" >&2
fi
command -v chromium >/dev/null && exit 0
if can_install && apt-get install -y -qq --no-install-recommends chromium >/dev/null; then
    exit 0
fi
echo "chromium is not installed and cannot be installed here: the tests of the page will skip" >&2
