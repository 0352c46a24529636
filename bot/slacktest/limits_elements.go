package slacktest

// element checks an element, which must be of the one kind that the bot puts there.
func (c *checker) element(pointer string, e Block, want string) {
	if e == nil {
		c.fault(pointer, "must provide an object")
		return
	}
	if kind, _ := e["type"].(string); kind != want {
		c.fault(pointer, "unsupported type: %s", kind)
		return
	}
	c.text(pointer+"/action_id", e["action_id"], 1, maxID, false)
	if want == "button" {
		c.button(pointer, e)
	} else {
		c.plainTextInput(pointer, e)
	}
}

func (c *checker) button(pointer string, e Block) {
	c.known(pointer, e, "text", "action_id", "url", "value", "style")
	c.plainText(pointer+"/text", e["text"], maxButtonText, true)
	c.text(pointer+"/value", e["value"], 0, maxValue, false)
	c.text(pointer+"/url", e["url"], 1, maxURL, false)
	if style := e["style"]; style != nil && style != "primary" && style != "danger" {
		c.fault(pointer+"/style", "must be primary or danger")
	}
}

func (c *checker) plainTextInput(pointer string, e Block) {
	c.known(pointer, e, "action_id", "initial_value", "multiline", "min_length", "max_length", "focus_on_load")
	if e["focus_on_load"] == true {
		if c.focused {
			c.fault(pointer+"/focus_on_load", "only one element may set focus_on_load")
		}
		c.focused = true
	}
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

// elementsOf returns the elements of a block that people can use: buttons and inputs.
func elementsOf(b Block) []Block {
	var found []Block
	if list, ok := b["elements"].([]any); ok && b["type"] == "actions" {
		for _, e := range list {
			if o := asObject(e); o != nil {
				found = append(found, o)
			}
		}
	}
	if o := asObject(b["element"]); o != nil {
		found = append(found, o)
	}
	return found
}
