package index

import "github.com/gatehouse-dev/gatehouse/signature"

// ForgetVerdicts drops the verdicts on signatures, whose number is bounded, so that
// what remains is what a digest costs.
func (x *Index) ForgetVerdicts() { x.memo = signature.NewMemo(0) }
