package grafeasapi

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// isHealthCheck reports whether a request asks only whether the service is up.
func isHealthCheck(r *http.Request) bool {
	return r.ProtoMajor == 2 && isGRPC(r.Header.Get("Content-Type")) &&
		strings.HasPrefix(r.URL.Path, "/"+grpc_health_v1.Health_ServiceDesc.ServiceName+"/")
}

// refuse answers a request whose caller is not known or asks too often, and
// records it. Nothing of its body is read.
func refuse(w http.ResponseWriter, r *http.Request, svc *metadata.Service, rest *rest, id identity) {
	_, err := callerOf(withIdentity(r.Context(), id))
	if r.ProtoMajor == 2 && isGRPC(r.Header.Get("Content-Type")) {
		svc.Refused(r.Context(), id.caller, clipMethod(path.Base(r.URL.Path)), err)
		refuseRPC(w, status.Convert(toStatus(err)))
		return
	}
	svc.Refused(r.Context(), id.caller, clipMethod(r.Method+" "+r.URL.Path), err)
	var says interface{ SetHeader(http.Header) }
	if errors.As(err, &says) {
		says.SetHeader(w.Header())
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rest.writeError(r.Context(), rest.mux, nil, w, r, toStatus(err))
}

// refuseRPC answers with a status and no message, which gRPC puts into the
// header of the answer.
func refuseRPC(w http.ResponseWriter, st *status.Status) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(int(st.Code())))
	h.Set("Grpc-Message", encodeMessage(st.Message()))
	w.WriteHeader(http.StatusOK)
}

// encodeMessage encodes the text of a status as gRPC over HTTP/2 demands: what is
// not printable ASCII, and the percent sign, in percent notation.
func encodeMessage(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '%' {
			_, _ = fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// clipMethod bounds what a record says of a method that nobody looked up.
func clipMethod(s string) string {
	const most = 300
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}
