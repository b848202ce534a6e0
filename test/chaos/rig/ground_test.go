package rig

import (
	"net"
	"os"
	"testing"
)

// The mesh tells clients apart by who has their socket.
func TestIdentify(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	g := &Ground{pids: map[string]int{"init": 1, "me": os.Getpid()}}
	if got := g.identify(accepted.RemoteAddr().(*net.TCPAddr)); got != "me" {
		t.Errorf("my own socket is %q's", got)
	}
	delete(g.pids, "me")
	if got := g.identify(accepted.RemoteAddr().(*net.TCPAddr)); got != "?" {
		t.Errorf("the socket of nobody known is %q's", got)
	}
}
