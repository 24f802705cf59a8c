#!/bin/sh
# Fails, with the difference, if the Go code in api/ is not what generate.sh makes.
set -eu
cd "$(dirname "$0")"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

./generate.sh "$fresh"
if ! diff -ru -x proto -x kubernetes -x '*_test.go' -x testdata ../api "$fresh/api"; then
	echo "api/ is not what tools/generate.sh makes; run: make generate" >&2
	exit 1
fi
if ! diff -ru ../deploy/chart/gatehouse/files/crds "$fresh/deploy/chart/gatehouse/files/crds"; then
	echo "the chart's definitions are not those of api/kubernetes; run: make generate" >&2
	exit 1
fi
