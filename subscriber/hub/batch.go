package hub

// sharedBatch is the updates from one seq to another in one piece.
type sharedBatch struct {
	gen      uint32
	from, to int64
	// full says that what comes after to does not belong to the batch.
	full bool
	// joined says that bytes is a copy, not an entry's frame.
	joined bool
	bytes  []byte
}

// sharedBatches are the newest batches of one encoding: viewers that had to
// wait for their sockets stand at a few places behind the others.
type sharedBatches struct {
	slots [4]sharedBatch
	next  int // the slot that is used next
}

// find returns the batch that begins at from and goes as far as it can.
func (s *sharedBatches) find(gen uint32, from, head int64) *sharedBatch {
	for i := range s.slots {
		if b := &s.slots[i]; b.from == from && b.gen == gen && b.bytes != nil && (b.to == head || b.full) {
			return b
		}
	}
	return nil
}

// put keeps a batch, in place of an older one.
func (s *sharedBatches) put(b sharedBatch) {
	s.slots[s.next] = b
	s.next = (s.next + 1) % len(s.slots)
}

// release lets go of the copies, which an idle topic should not keep.
func (s *sharedBatches) release() {
	for i := range s.slots {
		if s.slots[i].joined {
			s.slots[i] = sharedBatch{}
		}
	}
}

// updates is the way of nearly every delivery: all that follows the viewer's
// position, in one piece that viewers at the same place share. It returns the
// number of frames. Topic.mu is held.
func (t *topic) updates(v *viewer) ([]byte, int) {
	r := &t.ring
	head := r.head().Seq
	if v.phase != live || v.gen != t.gen || v.want.Latest || v.pos.Seq < r.base.Seq || v.pos.Seq >= head {
		return nil, 0
	}
	enc := v.conn.enc
	from := v.pos.Seq + 1
	b := t.batches[enc].find(t.gen, from, head)
	if b == nil {
		made, ok := t.join(enc, from, head)
		if !ok {
			return nil, 0
		}
		t.batches[enc].put(made)
		t.joined = t.joined || made.joined
		b = &made
	}
	if v.want.Run != "" && v.chain == "" {
		for seq := from; seq <= b.to; seq++ {
			v.passes(r.at(seq))
		}
	}
	v.pos = r.at(b.to).pos
	return b.bytes, int(b.to - from + 1)
}

// join makes the batch that begins at from, unless an end is what comes there.
func (t *topic) join(enc Encoding, from, head int64) (sharedBatch, bool) {
	r := &t.ring
	size, to := 0, from-1
	for to < head {
		e := r.at(to + 1)
		if e.closed {
			break
		}
		frame := t.updateFrame(e, enc)
		if size > 0 && size+len(frame) > maxBatch {
			break
		}
		size += len(frame)
		to++
	}
	if to < from {
		return sharedBatch{}, false
	}
	b := sharedBatch{gen: t.gen, from: from, to: to, full: to < head, bytes: t.updateFrame(r.at(from), enc)}
	if to > from {
		b.joined, b.bytes = true, make([]byte, 0, size)
		for seq := from; seq <= to; seq++ {
			b.bytes = append(b.bytes, r.at(seq).enc[enc]...)
		}
	}
	return b, true
}
