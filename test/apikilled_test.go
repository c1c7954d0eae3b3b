package test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowModel stands in for a model's endpoint: it thinks until it is told to
// stop, and then has no answer, which makes the agents apologize.
func slowModel(t *testing.T) (url string, asked <-chan struct{}, stop func()) {
	t.Helper()
	first, stopped := make(chan struct{}, 1), make(chan struct{})
	stop = sync.OnceFunc(func() { close(stopped) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that its end is seen
		select {
		case first <- struct{}{}:
		default:
		}
		select {
		case <-stopped:
		case <-r.Context().Done():
		}
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusBadRequest)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(stop)
	return s.URL + "/", first, stop
}

// delayedCable is a way to a server on which answers can be made late.
type delayedCable struct {
	addr  string
	delay atomic.Int64 // of answers, in nanoseconds
}

func newDelayedCable(t *testing.T, to string) *delayedCable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &delayedCable{addr: l.Addr().String()}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() { c.carry(ctx, in, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		end()
		carrying.Wait()
	})
	return c
}

func (c *delayedCable) carry(ctx context.Context, in net.Conn, to string) {
	out, err := net.Dial("tcp", to)
	if err != nil {
		in.Close()
		return
	}
	closeBoth := func() { in.Close(); out.Close() }
	defer context.AfterFunc(ctx, closeBoth)()
	type late struct {
		data []byte
		due  time.Time
	}
	answers := make(chan late, 1000)
	var copying sync.WaitGroup
	copying.Go(func() {
		defer close(answers)
		for {
			data := make([]byte, 32<<10)
			n, err := out.Read(data)
			if err != nil {
				return
			}
			answers <- late{data[:n], time.Now().Add(time.Duration(c.delay.Load()))}
		}
	})
	copying.Go(func() {
		defer closeBoth()
		for a := range answers {
			select {
			case <-time.After(time.Until(a.due)):
			case <-ctx.Done():
			}
			if _, err := in.Write(a.data); err != nil {
				break
			}
		}
		for range answers { // the reader must not wait for room
		}
	})
	_, _ = io.Copy(out, in)
	closeBoth()
	copying.Wait()
}

// twilioPosts makes a signed request of Twilio's to the API.
func twilioPosts(t *testing.T, p *programs, route string, form url.Values) (*http.Response, string, error) {
	t.Helper()
	signed := p.tunnel.url + route
	for _, key := range slices.Sorted(maps.Keys(form)) {
		signed += key + form.Get(key)
	}
	h := hmac.New(sha1.New, []byte(twilioToken))
	_, _ = io.WriteString(h, signed)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.apiAddr+route, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Twilio-Signature", base64.StdEncoding.EncodeToString(h.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

const whatsAppRoute = "/webhooks/twilio/whatsapp"

func whatsAppForm(sid string) url.Values {
	return url.Values{"MessageSid": {sid}, "From": {"whatsapp:" + person}, "To": {whatsAppNumber}, "Body": {"hello"}}
}

// The API is killed while it waits for the reply: the workflow sends it, and
// Twilio's retry is answered with nothing.
func TestAPIKilledWhileWaiting(t *testing.T) {
	model, asked, answer := slowModel(t)
	p := newPrograms(t, "RUNCAST_MODEL_URL="+model, "RUNCAST_MODEL=slow", "RUNCAST_REPLY_WAIT=8s")
	p.startWorker(t)
	api := p.startAPI(t)
	sid := "SM" + strings.Repeat("1", 32)
	died := make(chan error, 1)
	go func() {
		_, _, err := twilioPosts(t, p, whatsAppRoute, whatsAppForm(sid))
		died <- err
	}()
	<-asked // an agent is at work, so the API waits
	api.kill(t)
	if err := <-died; err == nil {
		t.Error("the API has answered")
	}
	answer()
	out := awaitMessages(t, p.emulator, "whatsapp:"+person, 1)
	p.emulator.reports(t, out[0].SID, "delivered")
	p.startAPI(t)
	p.awaitStatus(t, "whatsapp-"+sid, "completed")
	res, body, err := twilioPosts(t, p, whatsAppRoute, whatsAppForm(sid))
	if err != nil || res.StatusCode != http.StatusOK || body != "<Response></Response>" {
		t.Errorf("the retry was answered %v %s, %v", res, body, err)
	}
	if n := len(p.emulator.sends()); n != 1 {
		t.Errorf("%d replies", n)
	}
}

// The API is killed after it has claimed the reply and before it has answered
// with it: nobody sends, Twilio's retry gets the reply, and that is counted.
func TestAPIKilledAfterClaim(t *testing.T) {
	model, asked, answer := slowModel(t)
	p := newPrograms(t, "RUNCAST_MODEL_URL="+model, "RUNCAST_MODEL=slow", "RUNCAST_REPLY_WAIT=14s")
	p.startWorker(t)
	way := newDelayedCable(t, p.temporal)
	api := p.startAPI(t, "TEMPORAL_ADDRESS="+way.addr)
	sid := "SM" + strings.Repeat("2", 32)
	died := make(chan error, 1)
	go func() {
		_, _, err := twilioPosts(t, p, whatsAppRoute, whatsAppForm(sid))
		died <- err
	}()
	<-asked
	within(t, 10*time.Second, "the start to be known", func(context.Context) error {
		return expectMetric(t, p, `runcast_api_workflow_starts_total{result="ok",type="MultiAgentConversationWorkflow"} 1`)
	})
	// From now on the API learns late what has become of its claims.
	way.delay.Store(int64(4 * time.Second))
	answer()
	p.awaitStatus(t, "whatsapp-"+sid, "completed") // the claim was taken, or the run would wait
	api.kill(t)
	if err := <-died; err == nil {
		t.Fatal("the API has answered before it was killed")
	}
	p.startAPI(t)
	res, body, err := twilioPosts(t, p, whatsAppRoute, whatsAppForm(sid))
	if err != nil || res.StatusCode != http.StatusOK || strings.Count(body, "<Message>") != 1 {
		t.Errorf("the retry was answered %v %s, %v", res, body, err)
	}
	if err := expectMetric(t, p, `runcast_api_replies_total{channel="whatsapp",result="again"} 1`); err != nil {
		t.Error(err)
	}
	if n := len(p.emulator.sends()); n != 0 {
		t.Errorf("%d were sent, too", n)
	}
}

// expectMetric returns an error where the API's metrics lack a line.
func expectMetric(t *testing.T, p *programs, line string) error {
	t.Helper()
	all := text(t, "http://"+p.apiAddr+"/metrics")
	if !strings.Contains(all, line+"\n") {
		return fmt.Errorf("the metrics lack %s", line)
	}
	return nil
}
