// Command audit-verify checks an exported audit bundle without any server: it links the core and golang.org/x/mod alone.
package main

import (
	"os"

	"github.com/ringfence/ringfence/adapters/auditverify"
)

func main() {
	os.Exit(auditverify.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
