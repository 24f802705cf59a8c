package metadata

import (
	"google.golang.org/protobuf/proto"
)

// pageSize applies Grafeas's rules to the page size asked for.
func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0:
		return 0, Errorf(InvalidArgument, "page size %d cannot be negative", asked)
	case asked > MaxPageSize:
		return 0, Errorf(InvalidArgument, "page size %d cannot be larger than the maximum %d", asked, MaxPageSize)
	case asked == 0:
		return DefaultPageSize, nil
	}
	return int(asked), nil
}

func checkBatch(n int, what string) error {
	switch {
	case n == 0:
		return Errorf(InvalidArgument, "at least one %s must be specified", what)
	case n > MaxBatch:
		return Errorf(InvalidArgument, "%d is too many %ss to create in a batch, a maximum of %d is allowed", n, what, MaxBatch)
	}
	return nil
}

func checkSize(what string, m proto.Message) error {
	if n := proto.Size(m); n > MaxMessageBytes {
		return Errorf(InvalidArgument, "%s has %d bytes, a maximum of %d is allowed; store large content elsewhere and refer to it by digest", what, n, MaxMessageBytes)
	}
	return nil
}

// checkBatchSize refuses a batch that would be committed and whose answer a gRPC
// client could then not receive.
func checkBatchSize(answer proto.Message) error {
	if n := proto.Size(answer); n > MaxBatchBytes {
		return Errorf(InvalidArgument, "the answer to this batch would have %d bytes, a maximum of %d is allowed; nothing was created, send smaller batches", n, MaxBatchBytes)
	}
	return nil
}

// fillPage reads rows until it has size of them that match, or there are no
// more, or the page is large, or maxScan rows were looked at. It returns the
// position of the last row looked at, unless there are no more.
func fillPage[T proto.Message](
	size int,
	filtered bool,
	match func(T) bool,
	read func(limit int) (rows []T, more bool, err error),
	position func(T) (string, error),
) (page []T, last string, err error) {
	bytes, looked := 0, 0
	var before T // the row looked at before
	for {
		limit := size - len(page)
		if filtered && looked > 0 {
			limit = MaxPageSize // few matched so far: go on in greater steps
		}
		rows, more, err := read(limit)
		if err != nil {
			return nil, "", err
		}
		for i, row := range rows {
			if match(row) {
				if bytes += proto.Size(row); bytes > MaxPageBytes && len(page) > 0 {
					last, err := position(before)
					return page, last, err
				}
				page = append(page, row)
			}
			looked++
			before = row
			rest := more || i < len(rows)-1
			if full := len(page) == size || looked >= maxScan; full && rest {
				last, err := position(row)
				return page, last, err
			}
		}
		if !more || len(rows) == 0 {
			return page, "", nil
		}
	}
}
