package bundle

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// An ObjectCompiler keeps, from one [Load] to the next, what objects of a cluster were
// compiled to. The zero ObjectCompiler is ready to use, by one goroutine at a time.
type ObjectCompiler struct {
	compiler objects.Compiler
	options  *objects.Options
	// sum is of the texts that the options were made from.
	sum []byte
}

// compile compiles the objects with what they leave open. A nil ObjectCompiler keeps
// nothing.
func (c *ObjectCompiler) compile(s *Sources, options *objects.Options) *objects.Outcome {
	if c == nil {
		c = &ObjectCompiler{}
	}
	if sum := sumOf(s); c.options == nil || !bytes.Equal(sum, c.sum) {
		c.options, c.sum = options, sum
	}
	return c.compiler.Compile(s.Objects, c.options, s.Now)
}

// sumOf tells the sources apart that options are made from.
func sumOf(s *Sources) []byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q\n%v\n%+v\n", s.Project, s.Mesh, s.Kritis) // a hash never fails
	for _, list := range [][]File{s.Attestors, s.Builders, s.HintSigners} {
		_, _ = fmt.Fprintf(h, "%d\n", len(list))
		for _, f := range list {
			_, _ = fmt.Fprintf(h, "%q %d\n", f.Name, len(f.Data))
			_, _ = h.Write(f.Data)
		}
	}
	if s.System != nil {
		_, _ = h.Write(s.System.Data)
	}
	return h.Sum(nil)
}
