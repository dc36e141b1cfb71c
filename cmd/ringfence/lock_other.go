//go:build !unix

package main

import (
	"fmt"
	"os"
	"runtime"
)

// lock refuses to run where a data folder cannot be taken for one process.
func lock(string) (*os.File, error) {
	return nil, fmt.Errorf("data folder: the server does not run on %s; its folder cannot be kept from a second process there", runtime.GOOS)
}
