package slacktest

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Surface is where blocks are shown; some limits depend on it.
type Surface int

// The surfaces of an app.
const (
	InMessage Surface = iota
	InModal
	InHome
)

// Limits of Block Kit, in characters and items. What the bot never sends is refused as unknown.
// Source: https://docs.slack.dev/reference/block-kit/blocks and …/block-elements, …/composition-objects, …/views
const (
	maxBlocksMessage   = 50
	maxBlocksView      = 100
	maxHeader          = 150
	maxSection         = 3000
	maxContext         = 10
	maxActions         = 25
	maxButtonText      = 75
	maxValue           = 2000
	maxURL             = 3000
	maxID              = 255
	maxLabel           = 2000
	maxInputLength     = 3000
	maxViewTitle       = 24
	maxPrivateMetadata = 3000
)

// CheckBlocks returns what Slack would put into response_metadata.messages for these blocks; empty means accepted.
func CheckBlocks(surface Surface, blocks []Block) []string {
	c := checker{surface: surface}
	c.blocks("/blocks", blocks)
	return c.faults
}

// CheckView does the same for a decoded view of a modal or Home tab.
func CheckView(surface Surface, view map[string]any) []string {
	c := checker{surface: surface}
	c.view(view)
	return c.faults
}

type checker struct {
	surface  Surface
	faults   []string
	blockIDs []string
	focused  bool
	hasInput bool
}

func (c *checker) fault(pointer, format string, values ...any) {
	c.faults = append(c.faults, fmt.Sprintf("[ERROR] "+format+" [json-pointer:%s]", append(values, pointer)...))
}

func (c *checker) view(view map[string]any) {
	c.known("/view", view, "type", "title", "blocks", "close", "submit", "private_metadata", "callback_id")
	kind := "modal"
	if c.surface == InHome {
		kind = "home"
	}
	if view["type"] != kind {
		c.fault("/view/type", "must be %s", kind)
	}
	if c.surface == InModal {
		c.plainText("/view/title", view["title"], maxViewTitle, true)
		c.plainText("/view/submit", view["submit"], maxViewTitle, false)
		c.plainText("/view/close", view["close"], maxViewTitle, false)
	}
	c.text("/view/private_metadata", view["private_metadata"], 0, maxPrivateMetadata, false)
	c.text("/view/callback_id", view["callback_id"], 0, maxID, false)
	list, isList := view["blocks"].([]any)
	if !isList {
		c.fault("/view/blocks", "missing required field: blocks")
		return
	}
	c.blocks("/view/blocks", c.objects("/view/blocks", list))
	if c.hasInput && c.surface == InModal && view["submit"] == nil {
		c.fault("/view", "missing required field: submit")
	}
}

func (c *checker) blocks(pointer string, blocks []Block) {
	limit := maxBlocksView
	if c.surface == InMessage {
		limit = maxBlocksMessage
	}
	if len(blocks) > limit {
		c.fault(pointer, "no more than %d items allowed", limit)
	}
	for i, b := range blocks {
		c.block(at(pointer, i), b)
	}
}

func (c *checker) block(pointer string, b Block) {
	if b == nil {
		c.fault(pointer, "must provide an object")
		return
	}
	c.text(pointer+"/block_id", b["block_id"], 1, maxID, false)
	if id, ok := b["block_id"].(string); ok {
		if slices.Contains(c.blockIDs, id) {
			c.fault(pointer+"/block_id", "`block_id` must be unique")
		}
		c.blockIDs = append(c.blockIDs, id)
	}
	switch kind, _ := b["type"].(string); kind {
	case "divider":
		c.known(pointer, b)
	case "header":
		c.known(pointer, b, "text")
		c.plainText(pointer+"/text", b["text"], maxHeader, true)
	case "section":
		c.section(pointer, b)
	case "context":
		c.known(pointer, b, "elements")
		for i, e := range c.elements(pointer, b, maxContext) {
			c.textObject(at(pointer+"/elements", i), e, 1, maxSection)
		}
	case "actions":
		c.known(pointer, b, "elements")
		elements := c.elements(pointer, b, maxActions)
		for i, e := range elements {
			c.element(at(pointer+"/elements", i), e, "button")
		}
		c.uniqueActions(pointer, elements)
	case "input":
		c.input(pointer, b)
	case "rich_text":
		c.known(pointer, b, "elements")
		c.richText(pointer, b)
	default:
		c.fault(pointer, "unsupported type: %s", kind)
	}
}

func (c *checker) section(pointer string, b Block) {
	c.known(pointer, b, "text", "expand")
	if b["text"] == nil {
		c.fault(pointer, "missing required field: text")
		return
	}
	c.textObject(pointer+"/text", b["text"], 1, maxSection)
}

func (c *checker) input(pointer string, b Block) {
	c.hasInput = true
	c.known(pointer, b, "label", "element", "hint", "optional", "dispatch_action")
	c.plainText(pointer+"/label", b["label"], maxLabel, true)
	c.plainText(pointer+"/hint", b["hint"], maxLabel, false)
	c.element(pointer+"/element", asObject(b["element"]), "plain_text_input")
}

func (c *checker) richText(pointer string, b map[string]any) {
	elements, ok := b["elements"].([]any)
	if !ok {
		c.fault(pointer, "missing required field: elements")
	}
	for i, e := range c.objects(pointer+"/elements", elements) {
		inner := at(pointer+"/elements", i)
		switch kind, _ := e["type"].(string); kind {
		case "rich_text_section", "rich_text_quote":
			c.richText(inner, e)
		case "text":
			c.text(inner+"/text", e["text"], 1, maxText, true)
		case "link":
			c.text(inner+"/url", e["url"], 1, maxURL, true)
		case "user", "usergroup", "date":
		default:
			c.fault(inner, "unsupported type: %s", kind)
		}
	}
}

// textObject checks a composition object of either kind; plain_text and mrkdwn differ in what they may carry.
func (c *checker) textObject(pointer string, value any, least, most int) {
	o := asObject(value)
	switch o["type"] {
	case "plain_text":
		c.known(pointer, o, "text", "emoji")
	case "mrkdwn":
		c.known(pointer, o, "text", "verbatim")
	default:
		c.fault(pointer, "unsupported type: %v", o["type"])
		return
	}
	c.text(pointer+"/text", o["text"], least, most, true)
}

func (c *checker) plainText(pointer string, value any, most int, required bool) {
	if value == nil && !required {
		return
	}
	if o := asObject(value); o["type"] != "plain_text" {
		c.fault(pointer, "must provide a plain_text object")
		return
	}
	c.textObject(pointer, value, 1, most)
}

// text checks a string's length in characters.
func (c *checker) text(pointer string, value any, least, most int, required bool) {
	if value == nil {
		if required {
			c.fault(pointer, "missing required field")
		}
		return
	}
	text, ok := value.(string)
	if !ok {
		c.fault(pointer, "must provide a string")
		return
	}
	switch n := utf8.RuneCountInString(text); {
	case n < least:
		c.fault(pointer, "must be more than %d characters", least-1)
	case n > most:
		c.fault(pointer, "must be less than %d characters", most+1)
	}
}

func (c *checker) count(pointer string, n, least, most int) {
	switch {
	case n < least:
		c.fault(pointer, "no fewer than %d items required", least)
	case n > most:
		c.fault(pointer, "no more than %d items allowed", most)
	}
}

func (c *checker) elements(pointer string, b Block, most int) []Block {
	list, _ := b["elements"].([]any)
	c.count(pointer+"/elements", len(list), 1, most)
	return c.objects(pointer+"/elements", list)
}

func (c *checker) objects(pointer string, list []any) []Block {
	objects := make([]Block, len(list))
	for i, item := range list {
		if objects[i] = asObject(item); objects[i] == nil {
			c.fault(at(pointer, i), "must provide an object")
			objects[i] = Block{}
		}
	}
	return objects
}

// known refuses properties that the type does not have.
func (c *checker) known(pointer string, o map[string]any, properties ...string) {
	for name := range o {
		if name != "type" && name != "block_id" && !slices.Contains(properties, name) {
			c.fault(pointer, "invalid additional property: %s", name)
		}
	}
}

func asObject(value any) map[string]any {
	o, _ := value.(map[string]any)
	return o
}

func at(pointer string, index int) string { return pointer + "/" + strconv.Itoa(index) }
