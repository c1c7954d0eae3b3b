package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	_ "time/tzdata" // images without zones know the people's, too
)

// Messages are the settings of the messaging application on a worker.
type Messages struct {
	ShowText     bool          `name:"show-text" from:"RUNCAST_SHOW_TEXT" help:"Show in progress what people write and are answered. Without it only how long texts are."`
	TimeZone     string        `name:"time-zone" from:"RUNCAST_TIME_ZONE" default:"UTC" help:"Where people are whose reminders do not say it, such as Australia/Sydney: what \"yesterday\" and \"5pm\" mean."`
	Workdays     []string      `name:"workdays" from:"RUNCAST_WORKDAYS" default:"mon,tue,wed,thu,fri" help:"The days of the week that owe hours, of sun, mon, tue, wed, thu, fri and sat: on others nobody is reminded."`
	KeepMessages time.Duration `name:"keep-messages" from:"RUNCAST_KEEP_MESSAGES" default:"720h" help:"How long messages and what was said are kept."`
	KeepHours    time.Duration `name:"keep-hours" from:"RUNCAST_KEEP_HOURS" default:"17520h" help:"How long a person's hours are kept after the last change."`

	ModelURL string `name:"model-url" from:"RUNCAST_MODEL_URL" help:"An endpoint that speaks OpenAI's protocol, such as https://api.openai.com/v1/: the agents ask a model there. Empty: the built-in rules answer."`
	ModelKey string `name:"model-key" from:"RUNCAST_MODEL_KEY" placeholder:"KEY" help:"The endpoint's key."`
	Model    string `name:"model" from:"RUNCAST_MODEL" help:"The model's name."`
}

// Validate reports settings that cannot be, or contradict each other.
func (m *Messages) Validate() error {
	var errs []error
	if _, err := m.Zone(); err != nil {
		errs = append(errs, err)
	}
	if _, err := m.Days(); err != nil {
		errs = append(errs, err)
	}
	if m.KeepMessages < time.Hour {
		errs = append(errs, fmt.Errorf("--keep-messages (RUNCAST_KEEP_MESSAGES): %v is below 1h; a message could be sent twice", m.KeepMessages))
	}
	if m.KeepHours < 24*time.Hour {
		errs = append(errs, fmt.Errorf("--keep-hours (RUNCAST_KEEP_HOURS): %v is below 24h; what is recorded today would be gone tomorrow", m.KeepHours))
	}
	if (m.ModelURL == "") != (m.Model == "") {
		errs = append(errs, errors.New("--model-url (RUNCAST_MODEL_URL) and --model (RUNCAST_MODEL) go together: set both, or neither for the built-in rules"))
	}
	errs = append(errs, BaseURL("--model-url (RUNCAST_MODEL_URL)", m.ModelURL))
	return errors.Join(errs...)
}

// weekdays are the days of the week, as settings name them.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Days returns the days that owe hours.
func (m *Messages) Days() ([]time.Weekday, error) {
	days := make([]time.Weekday, 0, len(m.Workdays))
	for _, name := range m.Workdays {
		n := slices.Index(weekdays, name)
		if n < 0 {
			return nil, fmt.Errorf("--workdays (RUNCAST_WORKDAYS): %q is none of %s", name, strings.Join(weekdays, ", "))
		}
		days = append(days, time.Weekday(n))
	}
	return days, nil
}

// Zone returns the time zone.
func (m *Messages) Zone() (*time.Location, error) {
	zone, err := time.LoadLocation(m.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("--time-zone (RUNCAST_TIME_ZONE): %q is not a time zone such as Australia/Sydney", m.TimeZone)
	}
	return zone, nil
}
