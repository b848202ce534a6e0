package zookeeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxFrame is the largest packet taken: ZooKeeper's own limit of 1 MiB for the data of a node, and room
	// for what stands around it. What we ask for has a hundred bytes.
	maxFrame = 1<<20 + 4<<10
	// replyHeader is xid, zxid and error code.
	replyHeader = 4 + 8 + 4
	// statSize is the size of the record that describes a node.
	statSize = 6*8 + 5*4
	// The bounds of the session timeout that a server may decide on. The library pings in thirds of it.
	minSession = 100 * time.Millisecond
	maxSession = 24 * time.Hour
)

// Replies that belong to no request have these instead of its number.
const (
	xidEvent = -1
	xidPing  = -2
)

// opcode is what a request asks for. Only these are used; each has a reply of a known shape.
type opcode int32

const (
	opCreate  opcode = 1
	opExists  opcode = 3
	opGetData opcode = 4
	opSetData opcode = 5
	opSync    opcode = 9
	opList    opcode = 12
	opAuth    opcode = 100
	opClose   opcode = -11
)

// framed is the connection that the library sees: whole packets of a shape that it can decode, or an
// error. It sets all deadlines itself, one per packet, so that neither silence nor single bytes hold it up.
type framed struct {
	net.Conn
	rest []byte // of the packet that is being read

	mu       sync.Mutex
	patience time.Duration // for one packet; after the handshake, two thirds of the session timeout
	greeted  bool          // the request of the handshake is sent
	shaken   bool          // and answered
	awaited  map[int32]opcode
	fault    error // why no more packets come
}

func newFramed(conn net.Conn, handshake time.Duration) *framed {
	return &framed{Conn: conn, patience: handshake, awaited: map[int32]opcode{}}
}

// SetDeadline does nothing: the library would lift deadlines in the middle of a packet.
func (f *framed) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, as SetDeadline.
func (f *framed) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, as SetDeadline.
func (f *framed) SetWriteDeadline(time.Time) error { return nil }

// Read gives the next bytes of a checked packet.
func (f *framed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		packet, err := f.next()
		if err != nil {
			return 0, f.failed(err)
		}
		f.rest = packet
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Write sends one packet, as the library always writes whole ones, and notes what answer is due.
func (f *framed) Write(packet []byte) (int, error) {
	if err := f.note(packet); err != nil {
		return 0, f.failed(err)
	}
	if err := f.Conn.SetWriteDeadline(time.Now().Add(f.waits())); err != nil {
		return 0, f.failed(err)
	}
	n, err := f.Conn.Write(packet)
	if err != nil {
		err = f.failed(err)
	}
	return n, err
}

// why is the reason that the connection ended for, nil while it is good.
func (f *framed) why() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault
}

// failed keeps the first reason, in words.
func (f *framed) failed(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = fmt.Errorf("no whole packet within %s", f.patience)
		case errors.Is(err, io.EOF):
			err = errors.New("the server closed the connection (it does so while it starts or has no quorum)")
		case errors.Is(err, io.ErrUnexpectedEOF):
			err = errors.New("the server closed the connection in the middle of a packet")
		}
		f.fault = err
	}
	return f.fault
}

func (f *framed) waits() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.patience
}

func (f *framed) note(packet []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.greeted {
		f.greeted = true
		return nil
	}
	if len(packet) < 12 {
		return fmt.Errorf("a request of %d bytes is no packet", len(packet))
	}
	if xid := int32(binary.BigEndian.Uint32(packet[4:])); xid != xidPing {
		f.awaited[xid] = opcode(binary.BigEndian.Uint32(packet[8:]))
	}
	return nil
}

// next reads one packet, its length included.
func (f *framed) next() ([]byte, error) {
	if err := f.Conn.SetReadDeadline(time.Now().Add(f.waits())); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(f.Conn, length[:]); err != nil {
		return nil, err
	}
	size := int32(binary.BigEndian.Uint32(length[:]))
	if size < 4 || size > maxFrame {
		return nil, fmt.Errorf("a packet of %d bytes, want 4 to %d; is that a ZooKeeper server?", size, maxFrame)
	}
	packet := append(make([]byte, 0, 4+size), length[:]...)[:4+size]
	if _, err := io.ReadFull(f.Conn, packet[4:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return packet, f.check(packet[4:])
}

// check refuses what the library would misread or panic on.
func (f *framed) check(body []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.shaken {
		return f.checkHandshake(body)
	}
	p := payload{rest: body}
	xid, _, code := int32(p.number(4)), p.number(8), int32(p.number(4))
	switch {
	case p.short:
		return fmt.Errorf("a reply of %d bytes, want at least %d", len(body), replyHeader)
	case xid == xidPing:
		return nil
	case xid == xidEvent:
		p.number(4 + 4) // type and state
		p.text()
		return p.checked("an event")
	}
	op, ok := f.awaited[xid]
	if !ok {
		return fmt.Errorf("a reply to request %d, which was never sent or is answered already", xid)
	}
	delete(f.awaited, xid)
	if code != 0 {
		return nil
	}
	return checkReply(op, &p)
}

func checkReply(op opcode, p *payload) error {
	switch op {
	case opCreate, opSync:
		p.text()
	case opExists, opSetData:
		p.skip(statSize)
	case opGetData:
		p.data()
		p.skip(statSize)
	case opList:
		p.texts()
		p.skip(statSize)
	case opAuth, opClose:
	default:
		return fmt.Errorf("a reply to operation %d, which is never asked for", op)
	}
	return p.checked(fmt.Sprintf("a reply to operation %d", op))
}

func (f *framed) checkHandshake(body []byte) error {
	p := payload{rest: body}
	p.skip(4) // version
	timeout, session := time.Duration(int32(p.number(4)))*time.Millisecond, p.number(8)
	p.data() // password of the session
	switch {
	case p.short:
		return fmt.Errorf("%d bytes are no answer to the handshake; is that a ZooKeeper server?", len(body))
	case session == 0:
		return errors.New("the server refuses a session")
	case timeout < minSession || timeout > maxSession:
		return fmt.Errorf("the server wants a session timeout of %s, which is not within %s and %s", timeout, minSession, maxSession)
	}
	f.shaken, f.patience = true, timeout*2/3
	return nil
}

// payload walks over the fields of a packet; short is set when one reaches beyond its end.
type payload struct {
	rest  []byte
	short bool
}

func (p *payload) skip(bytes int) []byte {
	if p.short || bytes < 0 || bytes > len(p.rest) {
		p.short = true
		return nil
	}
	field := p.rest[:bytes]
	p.rest = p.rest[bytes:]
	return field
}

// number is a big-endian number of up to 8 bytes; 0 when short.
func (p *payload) number(bytes int) (n uint64) {
	for _, b := range p.skip(bytes) {
		n = n<<8 | uint64(b)
	}
	return n
}

// text is a string with its length before it.
func (p *payload) text() { p.skip(int(int32(p.number(4)))) }

// texts are several, with their number before them; each has at least its length.
func (p *payload) texts() {
	count := int32(p.number(4))
	p.short = p.short || count < 0
	for ; count > 0 && !p.short; count-- {
		p.text()
	}
}

// data is text, or -1 for none.
func (p *payload) data() {
	if size := int32(p.number(4)); size != -1 {
		p.skip(int(size))
	}
}

func (p *payload) checked(what string) error {
	if p.short {
		return fmt.Errorf("%s that is cut short", what)
	}
	return nil
}
