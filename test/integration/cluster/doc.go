// Package cluster runs the binaries of Sluice as users run them: real processes, a command line, exit
// codes. Tests talk to them through the contracts of the design only.
package cluster
