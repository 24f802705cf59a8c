// Command vulnerable greets its visitors in their language, with a release of
// golang.org/x/text that panics on some Accept-Language headers (CVE-2021-38561;
// the record is in ../osv). Its fix is the go.mod of ../good.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"golang.org/x/text/language"
)

func main() {
	addr := flag.String("addr", ":8080", "address to listen at")
	flag.Parse()
	server := &http.Server{Addr: *addr, Handler: http.HandlerFunc(greet), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// The greetings are in the order of the languages that are spoken.
var (
	greetings = []string{"Hello", "Guten Tag", "こんにちは"}
	spoken    = language.NewMatcher([]language.Tag{language.English, language.German, language.Japanese})
)

func greet(w http.ResponseWriter, r *http.Request) {
	wanted, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		http.Error(w, "Accept-Language: "+err.Error(), http.StatusBadRequest)
		return
	}
	_, index, _ := spoken.Match(wanted...)
	_, _ = fmt.Fprintln(w, greetings[index])
}
