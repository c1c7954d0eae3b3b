package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// DeliveryStep is the step that shows what becomes of a message.
const DeliveryStep = "Delivery"

// deliveryFor is how long a run waits for what becomes of its message. What
// comes later is kept with the message.
const deliveryFor = time.Minute

// maxReceipts bounds for how many messages a run keeps what it is told: it
// sends few, and whoever signals more is mistaken.
const maxReceipts = 32

// delivery collects what the carrier reports of the messages of a run.
type delivery struct {
	receipts map[string]message.Receipt // by SID
}

// newDelivery takes signals from now on: a callback may overtake the answer
// to the send.
func newDelivery(ctx workflow.Context) *delivery {
	d := &delivery{receipts: make(map[string]message.Receipt)}
	signals := workflow.GetSignalChannel(ctx, message.StatusSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var r message.Receipt
			if !signals.Receive(ctx, &r) {
				return
			}
			known, ok := d.receipts[r.SID]
			if !ok && len(d.receipts) >= maxReceipts {
				continue
			}
			newer := known.Newer(r)
			if d.receipts[r.SID] = newer; newer != known {
				showDelivery(ctx, newer)
			}
		}
	})
	return d
}

// await returns what is known of a message once its fate is, or the time is
// over. Where the carrier was not told where to report, nothing will come,
// and it does not wait.
func (d *delivery) await(ctx workflow.Context, out message.Outgoing, sent message.Receipt) (message.Receipt, error) {
	known := func() message.Receipt { return sent.Newer(d.receipts[sent.SID]) }
	showDelivery(ctx, known())
	if known().Status.Final() || out.StatusCallback == "" {
		return known(), nil
	}
	final, err := workflow.AwaitWithTimeout(ctx, deliveryFor, func() bool { return known().Status.Final() })
	if err == nil && !final {
		reporter.Workflow(ctx).Step(DeliveryStep, progress.StatusTimedOut, string(known().Status)+"; what comes later is kept with the message")
	}
	return known(), err
}

// showDelivery shows a receipt as a step of the run.
func showDelivery(ctx workflow.Context, r message.Receipt) {
	status := progress.StatusRunning
	switch r.Status {
	case message.StatusDelivered, message.StatusRead:
		status = progress.StatusCompleted
	case message.StatusUndelivered, message.StatusFailed, message.StatusCanceled:
		status = progress.StatusFailed
	}
	text := string(r.Status)
	if r.ErrorCode != 0 {
		text = fmt.Sprintf("%s, error %d", text, r.ErrorCode)
	}
	reporter.Workflow(ctx).Step(DeliveryStep, status, text)
}
