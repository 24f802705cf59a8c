// Package transfer moves what a Grafeas server keeps into a file, and from there
// into another server, over the API that both serve: v1, v1beta1, or both.
//
// [Export] writes a file of JSON lines: a header, projects, notes, occurrences,
// and an end with their numbers, without which a file counts as cut off.
//
//	{"format":"gatehouse-metadata","version":1,"source":"HOST:PORT","time":"…","apis":["v1","v1beta1"]}
//	{"project":"projects/p"}
//	{"note":{"name":"projects/p/notes/n",…},"api":"v1"}
//	{"occurrence":{"name":"projects/p/occurrences/…",…},"api":"v1beta1"}
//	{"end":{"projects":1,"notes":1,"occurrences":1}}
//
// A message is in the version of the API that holds all of it. One that JSON
// cannot hold whole, such as one with fields that this build does not know, is the
// base64 text of its protocol buffer instead. If a server shows a message in both
// versions so that neither follows from the other, the second is in "other".
//
// Servers with broken paging are met with distrust: a page token is sent only if
// the server gave it in this walk or may be given an old one, and a list that
// repeats itself is an error, unless Salvage walks it until nothing new comes.
//
// [Import] checks the whole file before it sends anything, creates occurrences in
// the order of their creation, and keeps its position beside the file. Servers
// give occurrences new names and both kinds new times; those of the file are lost
// with it. Notes keep their names. Before it sends again a batch whose fate is not
// known, it compares what the server has.
package transfer
