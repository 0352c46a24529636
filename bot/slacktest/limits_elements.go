package slacktest

import "slices"

// place is where an element stands; Slack allows different elements in each.
type place int

const (
	inActions place = iota
	inSection
	inInput
)

// interactive reports whether an element type carries an action id.
func interactive(kind string) bool { return kind != "image" && elementPlaces(kind) != nil }

// elementPlaces returns where a known element may stand; nil means that Slack does not know the type.
func elementPlaces(kind string) []place {
	switch kind {
	case "button", "overflow", "workflow_button":
		return []place{inActions, inSection}
	case "image":
		return []place{inSection}
	case "plain_text_input", "number_input", "email_text_input", "url_text_input", "rich_text_input", "file_input":
		return []place{inInput}
	case "multi_static_select", "multi_users_select", "multi_conversations_select", "multi_channels_select", "multi_external_select":
		return []place{inSection, inInput}
	case "static_select", "users_select", "conversations_select", "channels_select", "external_select",
		"checkboxes", "radio_buttons", "datepicker", "timepicker", "datetimepicker":
		return []place{inActions, inSection, inInput}
	}
	return nil
}

func (c *checker) element(pointer string, e Block, where place) {
	if e == nil {
		c.fault(pointer, "must provide an object")
		return
	}
	kind, _ := e["type"].(string)
	if !slices.Contains(elementPlaces(kind), where) {
		c.fault(pointer, "unsupported type: %s", kind)
		return
	}
	c.text(pointer+"/action_id", e["action_id"], 1, maxID, false)
	if e["focus_on_load"] == true {
		if c.focused {
			c.fault(pointer+"/focus_on_load", "only one element may set focus_on_load")
		}
		c.focused = true
	}
	if e["confirm"] != nil {
		c.confirm(pointer+"/confirm", asObject(e["confirm"]))
	}
	c.plainText(pointer+"/placeholder", e["placeholder"], maxPlaceholder, false)
	switch kind {
	case "button":
		c.button(pointer, e)
	case "image":
		c.known(pointer, e, "image_url", "slack_file", "alt_text")
		c.image(pointer, e)
	case "plain_text_input":
		c.plainTextInput(pointer, e)
	case "overflow":
		c.options(pointer, e, maxOverflow)
	case "static_select", "multi_static_select", "checkboxes", "radio_buttons":
		if e["option_groups"] == nil {
			c.options(pointer, e, maxOptions)
		}
	}
}

func (c *checker) button(pointer string, e Block) {
	c.known(pointer, e, "text", "action_id", "url", "value", "style", "confirm", "accessibility_label")
	c.plainText(pointer+"/text", e["text"], maxButtonText, true)
	c.text(pointer+"/value", e["value"], 0, maxValue, false)
	c.text(pointer+"/url", e["url"], 1, maxURL, false)
	c.text(pointer+"/accessibility_label", e["accessibility_label"], 1, maxAccessibility, false)
	if style := e["style"]; style != nil && style != "primary" && style != "danger" {
		c.fault(pointer+"/style", "must be primary or danger")
	}
}

func (c *checker) plainTextInput(pointer string, e Block) {
	c.known(pointer, e, "action_id", "initial_value", "multiline", "min_length", "max_length", "dispatch_action_config",
		"focus_on_load", "placeholder")
	least := c.length(pointer+"/min_length", e["min_length"], 0, 0)
	most := c.length(pointer+"/max_length", e["max_length"], 1, maxInputLength)
	if least > most {
		c.fault(pointer, "min_length must be less than or equal to max_length")
	}
	c.text(pointer+"/initial_value", e["initial_value"], 0, most, false)
}

func (c *checker) length(pointer string, value any, least, otherwise int) int {
	if value == nil {
		return otherwise
	}
	n, ok := value.(float64)
	if !ok || n != float64(int(n)) {
		c.fault(pointer, "must provide an integer")
		return otherwise
	}
	if int(n) < least || int(n) > maxInputLength {
		c.fault(pointer, "must be between %d and %d", least, maxInputLength)
	}
	return int(n)
}

func (c *checker) confirm(pointer string, o Block) {
	c.known(pointer, o, "title", "text", "confirm", "deny", "style")
	c.plainText(pointer+"/title", o["title"], maxConfirmTitle, true)
	c.textObject(pointer+"/text", o["text"], 1, maxConfirmText)
	c.plainText(pointer+"/confirm", o["confirm"], maxConfirmButton, true)
	c.plainText(pointer+"/deny", o["deny"], maxConfirmButton, true)
}

func (c *checker) options(pointer string, e Block, most int) {
	list, _ := e["options"].([]any)
	c.count(pointer+"/options", len(list), 1, most)
	for i, o := range c.objects(pointer+"/options", list) {
		inner := at(pointer+"/options", i)
		c.textObject(inner+"/text", o["text"], 1, maxOptionText)
		c.text(inner+"/value", o["value"], 1, maxOptionText, true)
		if o["description"] != nil {
			c.textObject(inner+"/description", o["description"], 1, maxOptionText)
		}
	}
}

func (c *checker) image(pointer string, e Block) {
	c.text(pointer+"/alt_text", e["alt_text"], 1, maxImageText, true)
	if e["slack_file"] == nil {
		c.text(pointer+"/image_url", e["image_url"], 1, maxURL, true)
	}
}

// uniqueActions wants distinct action ids within one block.
func (c *checker) uniqueActions(pointer string, elements []Block) {
	seen := map[string]bool{}
	for i, e := range elements {
		id, ok := e["action_id"].(string)
		if ok && seen[id] {
			c.fault(at(pointer+"/elements", i)+"/action_id", "`action_id` must be unique in its block")
		}
		seen[id] = ok
	}
}

// elementsOf returns the elements of a block that people can use: buttons, inputs, an accessory.
func elementsOf(b Block) []Block {
	var found []Block
	if list, ok := b["elements"].([]any); ok && b["type"] == "actions" {
		for _, e := range list {
			if o := asObject(e); o != nil {
				found = append(found, o)
			}
		}
	}
	for _, name := range []string{"accessory", "element"} {
		if o := asObject(b[name]); o != nil {
			found = append(found, o)
		}
	}
	return found
}
