// Package proto holds the protocol definitions; sluice/v1 is generated from them. The rules of the
// protocol stand as comments in the .proto files.
package proto

//go:generate go run github.com/sluice-stream/sluice/internal/protogen -root .
