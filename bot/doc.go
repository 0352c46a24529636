// Package bot is the product's face in Slack: it renders cards, modals and
// replies, turns clicks and submissions into use cases, delivers the work that is
// due in Slack, and knows who is who in the workspace.
//
// Rendering is pure: a state goes in, blocks and a sentence come out. Clicks
// reach the same handlers through Socket Mode or through signed HTTP.
//
// The package decides nothing: every right, code and state is judged by the
// service. It keeps no state that must survive, retries nothing by itself (the
// worker does) and never logs a payload, a code or a token.
package bot
