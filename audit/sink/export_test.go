package sink

import "github.com/gatehouse-dev/gatehouse/audit/deliver"

// EncodeForTest is a record as a message of syslog.
func EncodeForTest(e deliver.Entry) ([]byte, error) {
	return message{facility: 10, host: "host", app: "gatehouse", process: "1", sdID: defaultSDID, size: defaultPacketSize}.encode(e)
}
