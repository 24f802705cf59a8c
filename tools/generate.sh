#!/bin/sh
# Generates api/ from the descriptors in Google's published Grafeas package:
#
#	make generate        (or: tools/generate.sh [FOLDER], to make FOLDER/api)
#
# The tools are pinned in tools/go.mod and built from source; only the first
# build needs the network. check-generated.sh tells whether api/ is up to date.
set -eu
cd "$(dirname "$0")"
into=${1:-..}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

go build -o "$work" github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway
go build -o "$work" github.com/bufbuild/buf/cmd/buf
(cd .. && go run ./internal/gen/descriptor) >"$work/grafeas.binpb"
PATH="$work:$PATH" buf generate "$work/grafeas.binpb" --path grafeas/v1/grafeas.proto -o "$into"
