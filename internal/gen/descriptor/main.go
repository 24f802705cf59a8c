// Command descriptor writes the FileDescriptorSet of the Grafeas v1 service and of
// Google's companion to it, with all that they import, to standard output. Google
// publishes the messages as Go code; the code embeds the descriptors, HTTP rules
// included, from which tools/generate.sh makes the REST gateways.
package main

import (
	"fmt"
	"io"
	"os"

	containeranalysis "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "descriptor:", err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	add(&set, grafeas.File_grafeas_v1_grafeas_proto, seen)
	add(&set, containeranalysis.File_google_devtools_containeranalysis_v1_containeranalysis_proto, seen)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&set)
	if err != nil {
		return fmt.Errorf("encoding the descriptors: %w", err)
	}
	_, err = out.Write(raw)
	return err
}

// add appends a file after all that it imports, as the format demands.
func add(set *descriptorpb.FileDescriptorSet, file protoreflect.FileDescriptor, seen map[string]bool) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		add(set, file.Imports().Get(i).FileDescriptor, seen)
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}
