// Package delivery tells subscribers of runs what has changed: the activities
// that workflow code asks for (package handlers), by signed webhooks (package
// webhook), and the dead letters, which wait in Redis to be sent again:
//
//	{deadletters}                 sorted set  IDs by when they were written, in Unix ms
//	{deadletters}:index:sizes     hash        bytes of each letter, and of all of them
//	{deadletters}:ID              hash        one letter
//	{deadletters}:ID:replay       string      somebody sends it right now
//	{deadletters}:endpoint:HASH   hash        a URL that fails: url, failures, paused_until
//
// The braces are literal: on a cluster all of them are in one slot. All
// expire.
package delivery
