module github.com/gatehouse-dev/gatehouse/examples/images/root

go 1.26.0
