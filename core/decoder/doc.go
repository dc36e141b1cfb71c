// Package decoder holds what is true of tenants' decoder scripts: their versions, limits, inputs and results. It runs
// nothing: that is ports/sandbox.
package decoder
