package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
)

// The layout of a bbolt file, version 2. A page has a header
//
//	id u64 | flags u16 | count u16 | overflow u32 (further pages that belong to it)
//
// and then, by flags: meta; a branch with count elements of pos u32 | ksize u32 | child u64; a leaf with
// count elements of flags u32 | pos u32 | ksize u32 | vsize u32, where pos counts from the element to the
// key that the value follows; or a freelist with count ids u64. Keys stand without gaps behind the
// elements.
const (
	pageHeader   = 16
	elementBytes = 16
	branchFlag   = 0x01
	leafFlag     = 0x02
	freelistFlag = 0x10
	bucketFlag   = 0x01
	bucketHeader = 16
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	metaBytes    = 64
	// longFreelist: the count stands in the first id.
	longFreelist = 0xFFFF
	maxDepth     = 64
)

var order = binary.NativeEndian

// meta is the part of a meta page that matters here.
type meta struct {
	pageSize uint64
	// root and freelist are pages, end is the number of pages in use, txid that of bbolt's transaction.
	root, freelist, end, txid uint64
}

// verify checks every page and every record of the database with plain reads, so that damage is an
// error here and not a fault, or worse a wrong value, later. It returns the header record.
func verify(path string, log *slog.Logger) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, fmt.Errorf("open checkpoint database: %w", err)
	}
	info, err := f.Stat()
	var head header
	if err == nil {
		head, err = verifyPages(f, info.Size(), log)
	}
	if err = errors.Join(err, f.Close()); errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w; put back the newest copy together with its witness", err)
	}
	if err != nil {
		return header{}, fmt.Errorf("check %s: %w", path, err)
	}
	return head, nil
}

func verifyPages(r io.ReaderAt, size int64, log *slog.Logger) (header, error) {
	m, err := newestMeta(r, size, log)
	if err != nil {
		return header{}, err
	}
	if m.end > uint64(size)/m.pageSize {
		return header{}, damaged("the file has %d bytes, but %d pages of %d are in use: it was cut off", size, m.end, m.pageSize)
	}
	s := &scanner{file: r, meta: m, seen: make([]bool, m.end)}
	if err := s.run(); err != nil {
		return header{}, err
	}
	if s.head == nil {
		return header{}, damaged("record %q is missing", headerKey)
	}
	if s.head.digest != s.digest {
		return header{}, damaged("the records do not add up to the digest of the header: %016x, stored is %016x", s.digest, s.head.digest)
	}
	return *s.head, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// newestMeta finds the meta page that bbolt would use: the valid one with the higher transaction id. The
// second one stands at the page size, which only a meta page tells.
func newestMeta(r io.ReaderAt, size int64, log *slog.Logger) (meta, error) {
	first, ok0 := readMeta(r, 0)
	var second meta
	ok1 := false
	for at := int64(1024); !ok1 && at <= 1024<<14 && at+pageHeader+metaBytes <= size; at *= 2 {
		second, ok1 = readMeta(r, at)
		ok1 = ok1 && second.pageSize == uint64(at)
	}
	switch {
	case !ok0 && !ok1:
		return meta{}, damaged("neither meta page is whole (%d bytes)", size)
	case !ok0 || !ok1:
		// A write that was cut off leaves this, and so does damage: the witness tells them apart.
		log.Warn("one meta page of the checkpoint database is not whole; the other one counts")
	}
	if !ok0 || (ok1 && second.txid > first.txid) {
		return second, nil
	}
	return first, nil
}

func readMeta(r io.ReaderAt, at int64) (meta, bool) {
	var b [pageHeader + metaBytes]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return meta{}, false
	}
	p := b[pageHeader:]
	h := fnv.New64a()
	h.Write(p[:metaBytes-8]) //nolint:errcheck // a hash does not fail
	if order.Uint32(p) != metaMagic || order.Uint32(p[4:]) != metaVersion || h.Sum64() != order.Uint64(p[56:]) {
		return meta{}, false
	}
	m := meta{
		pageSize: uint64(order.Uint32(p[8:])), root: order.Uint64(p[16:]), freelist: order.Uint64(p[32:]),
		end: order.Uint64(p[40:]), txid: order.Uint64(p[48:]),
	}
	return m, m.pageSize >= 1024 && m.pageSize <= 1024<<14
}

type scanner struct {
	file   io.ReaderAt
	meta   meta
	seen   []bool // pages accounted for
	head   *header
	digest uint64
}

func (s *scanner) run() error {
	root, err := s.bucketRoot()
	if err != nil {
		return err
	}
	if root.inline != nil {
		err = s.leaf("the records", root.inline, nil, nil, s.record)
	} else {
		err = s.tree(root.page, nil, nil, 0)
	}
	if err != nil {
		return err
	}
	if err := s.freelist(); err != nil {
		return err
	}
	for id := 2; id < len(s.seen); id++ {
		if !s.seen[id] {
			return damaged("page %d is neither used nor free", id)
		}
	}
	return nil
}

type root struct {
	page   uint64
	inline []byte
}

// bucketRoot finds the only bucket.
func (s *scanner) bucketRoot() (found root, err error) {
	p, err := s.page(s.meta.root, leafFlag)
	if err != nil {
		return found, err
	}
	n := 0
	err = s.leaf("the root page", p, nil, nil, func(flags uint32, key, value []byte) error {
		n++
		if flags != bucketFlag || string(key) != bucketName || len(value) < bucketHeader {
			return damaged("it holds %.40q, not a checkpoint store of this version", key)
		}
		if found.page = order.Uint64(value); found.page == 0 {
			found.inline = value[bucketHeader:]
		}
		return nil
	})
	if err == nil && n != 1 {
		err = damaged("it holds %d buckets, want %q", n, bucketName)
	}
	return found, err
}

func (s *scanner) record(flags uint32, key, value []byte) error {
	if flags != 0 {
		return damaged("record %q has flags %x", key, flags)
	}
	if isHeader(key) {
		head, err := decodeHeader(value)
		s.head = &head
		return err
	}
	if _, err := unseal(key, value); err != nil {
		return err
	}
	s.digest += weight(value)
	return nil
}

// page reads a page with what belongs to it and accounts for it.
func (s *scanner) page(id uint64, kinds uint16) ([]byte, error) {
	if id < 2 || id >= s.meta.end {
		return nil, damaged("page %d is referred to, pages 2 to %d are in use", id, s.meta.end-1)
	}
	var h [pageHeader]byte
	at := int64(id * s.meta.pageSize)
	if _, err := s.file.ReadAt(h[:], at); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	flags, overflow := order.Uint16(h[8:]), uint64(order.Uint32(h[12:]))
	if order.Uint64(h[:]) != id || flags&kinds == 0 || flags&(flags-1) != 0 || overflow >= s.meta.end-id {
		return nil, damaged("page %d says that it is page %d with flags %x and %d more", id, order.Uint64(h[:]), flags, overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if s.seen[i] {
			return nil, damaged("page %d is used twice", i)
		}
		s.seen[i] = true
	}
	b := make([]byte, (overflow+1)*s.meta.pageSize)
	if _, err := s.file.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return b, nil
}

// tree checks a page and those below: the first key must be first (nil: any), all keys below limit (nil: none).
func (s *scanner) tree(id uint64, first, limit []byte, depth int) error {
	if depth > maxDepth {
		return damaged("the pages are nested more than %d deep", maxDepth)
	}
	p, err := s.page(id, branchFlag|leafFlag)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("page %d", id)
	if order.Uint16(p[8:]) == leafFlag {
		return s.leaf(name, p, first, limit, s.record)
	}
	type child struct {
		key  []byte
		page uint64
	}
	var children []child
	err = elements(name, p, first, limit, func(e []byte) (element, error) {
		return element{pos: order.Uint32(e), ksize: order.Uint32(e[4:]), child: order.Uint64(e[8:])}, nil
	}, func(e element, key, _ []byte) error {
		children = append(children, child{key, e.child})
		return nil
	})
	if err != nil {
		return err
	}
	if len(children) == 0 {
		return damaged("%s is a branch without children", name)
	}
	for i, c := range children {
		below := limit
		if i+1 < len(children) {
			below = children[i+1].key
		}
		if err := s.tree(c.page, c.key, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) leaf(name string, p, first, limit []byte, fn func(flags uint32, key, value []byte) error) error {
	if len(p) < pageHeader || order.Uint16(p[8:]) != leafFlag {
		return damaged("%s is not a leaf", name)
	}
	return elements(name, p, first, limit, func(e []byte) (element, error) {
		el := element{flags: order.Uint32(e), pos: order.Uint32(e[4:]), ksize: order.Uint32(e[8:]), vsize: order.Uint32(e[12:])}
		if el.flags > bucketFlag {
			return el, damaged("%s has an element with flags %x", name, el.flags)
		}
		return el, nil
	}, func(e element, key, value []byte) error { return fn(e.flags, key, value) })
}

type element struct {
	flags, pos, ksize, vsize uint32
	child                    uint64
}

// elements walks the elements of a branch or leaf: they must lie within the page, without gaps (so that
// a wrong count shows), with keys that rise.
func elements(name string, p, first, limit []byte, parse func([]byte) (element, error), fn func(e element, key, value []byte) error) error {
	count := int(order.Uint16(p[10:]))
	next := uint64(pageHeader + count*elementBytes) // where the next key has to begin
	if next > uint64(len(p)) {
		return damaged("%s has %d elements in %d bytes", name, count, len(p))
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*elementBytes
		e, err := parse(p[at : at+elementBytes])
		if err != nil {
			return err
		}
		end := next + uint64(e.ksize) + uint64(e.vsize)
		if uint64(at)+uint64(e.pos) != next || e.ksize == 0 || end > uint64(len(p)) {
			return damaged("element %d of %s lies at %d with %d and %d bytes, want %d", i, name, at+int(e.pos), e.ksize, e.vsize, next)
		}
		key := p[next : next+uint64(e.ksize)]
		if i == 0 && first != nil && !bytes.Equal(key, first) {
			return damaged("%s begins with key %.80q, its parent says %.80q", name, key, first)
		}
		if (i > 0 && bytes.Compare(last, key) >= 0) || (limit != nil && bytes.Compare(key, limit) >= 0) {
			return damaged("key %.80q of %s is out of order", key, name)
		}
		if err := fn(e, key, p[next+uint64(e.ksize):end]); err != nil {
			return err
		}
		last, next = key, end
	}
	return nil
}

// freelist checks that no page is both free and used.
func (s *scanner) freelist() error {
	p, err := s.page(s.meta.freelist, freelistFlag)
	if err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	count, ids := uint64(order.Uint16(p[10:])), p[pageHeader:]
	if count == longFreelist {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damaged("the freelist has %d ids in %d bytes", count, len(ids))
	}
	last := uint64(1)
	for i := range count {
		id := order.Uint64(ids[i*8:])
		if id <= last || id >= s.meta.end || s.seen[id] {
			return damaged("the freelist names page %d, which is in use, listed twice or beyond the end", id)
		}
		s.seen[id], last = true, id
	}
	return nil
}
