// Command root says hello on port 80, which is why its author lets it run as
// root. No policy should: it is the image that a check for root refuses.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	addr := flag.String("addr", ":80", "address to listen at")
	flag.Parse()
	server := &http.Server{Addr: *addr, Handler: http.HandlerFunc(greet), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func greet(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintf(w, "Hello from user %d\n", os.Getuid())
}
