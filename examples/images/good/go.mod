module github.com/gatehouse-dev/gatehouse/examples/images/good

go 1.26.0

require golang.org/x/text v0.43.0
