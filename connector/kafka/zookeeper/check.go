package zookeeper

import "context"

// Check finds out whether a server answers, takes the credentials and has the chroot.
func (c *Client) Check(ctx context.Context) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	_, err = c.acquire(ctx)
	return err
}
