#!/bin/sh
# Generates the Go code in api/:
#
#	make generate        (or: tools/generate.sh [FOLDER], to make FOLDER/api)
#
# from api/proto, the services that nobody publishes as Go code, and from the
# descriptors in the Go packages of Google that publish the others.
#
# The tools are pinned in tools/go.mod and built from source; only the first
# build needs the network. check-generated.sh tells whether api/ is up to date.
set -eu
cd "$(dirname "$0")"
into=${1:-..}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

go build -o "$work" \
	google.golang.org/protobuf/cmd/protoc-gen-go \
	google.golang.org/grpc/cmd/protoc-gen-go-grpc \
	github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway \
	github.com/bufbuild/buf/cmd/buf
PATH="$work:$PATH"

mkdir "$work/proto"
cp -r ../api/proto/. imports/. "$work/proto"
buf generate "$work/proto" --template buf.gen.yaml --path "$work/proto/gatehouse" -o "$into"

(cd .. && go run ./internal/gen/descriptor) >"$work/google.binpb"
buf generate "$work/google.binpb" --template buf.gen.google.yaml -o "$into" \
	--path grafeas/v1/grafeas.proto \
	--path google/devtools/containeranalysis/v1/containeranalysis.proto

# The chart carries the definitions of our kinds: helm reads no other folder.
mkdir -p "$into/deploy/chart/gatehouse/files/crds"
cp ../api/kubernetes/*.yaml "$into/deploy/chart/gatehouse/files/crds/"
# So it is with alerts and dashboard.
mkdir -p "$into/deploy/chart/gatehouse/files/monitoring"
cp ../deploy/monitoring/alerts.yaml ../deploy/monitoring/dashboard.json "$into/deploy/chart/gatehouse/files/monitoring/"
