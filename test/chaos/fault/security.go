package fault

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/chaos/rig"
)

const (
	// securityTrouble is how long a right or a login is missing.
	securityTrouble = 8 * time.Second
	certificateLife = 24 * time.Hour
	// manyAttempts are more than a victim needs that is to go on in the end.
	manyAttempts                  = 100
	firstPassword, secondPassword = "first", "second"
)

// securityFaults are done to a victim that logs in over TLS. It waits or restarts with growing pauses, says why, and
// goes on once it may, with nothing lost and nothing twice.
func securityFaults() []Fault {
	return []Fault{
		{ID: "F26", Variant: "acl", What: "the right to write is revoked from a second job for a while", Inject: onSecured(revokeWrite), Alone: true},
		{ID: "F27", Variant: "password", What: "the brokers do not take the password of a second job for a while", Inject: onSecured(changePassword), Alone: true},
		{ID: "F27", Variant: "new-password", What: "the password of a second job changes, and later the file that its job reads it from", Inject: onSecured(replacePassword), Alone: true},
		{ID: "F27", Variant: "certificate", What: "the certificates of the brokers have expired, for a second job, for a while", Inject: onSecured(expireCertificates), Alone: true},
		{ID: "F27", Variant: "rotation", What: "the brokers get new certificates while a second job runs", Inject: onSecured(rotateCertificates), Alone: true},
	}
}

// onSecured does something to the login of a victim, which in the end must go on.
func onSecured(harm func(ctx context.Context, v *victim) error) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		// A run that failed may have left what it broke.
		if err := s.SetCertificates(ctx, time.Now().Add(certificateLife)); err != nil {
			return err
		}
		if err := s.SetPassword(ctx, firstPassword, true); err != nil {
			return err
		}
		if err := s.GrantTransactions(ctx); err != nil {
			return err
		}
		v, err := s.newVictim(ctx, victimOptions{attempts: manyAttempts, bootstrap: s.Secured(), properties: s.Login()})
		if err != nil {
			return err
		}
		s.Begin()
		if err := harm(ctx, v); err != nil {
			return err
		}
		if err := v.goesOn(ctx); err != nil {
			return err
		}
		return v.end(ctx)
	}
}

// grant lets the user of the victims read its input and write its output.
func (v *victim) grant(ctx context.Context) error {
	if err := v.scene.Grant(ctx, v.in(), kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpRead); err != nil {
		return err
	}
	return v.scene.Grant(ctx, v.out(), kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpWrite)
}

func revokeWrite(ctx context.Context, v *victim) error {
	if err := v.scene.Revoke(ctx, v.out(), kadm.OpWrite); err != nil {
		return err
	}
	if err := v.write(ctx, victimRecords); err != nil {
		return err
	}
	if err := v.suffers(ctx, v.out(), "no permission", "WRITE"); err != nil {
		return err
	}
	if err := pause(ctx, securityTrouble); err != nil {
		return err
	}
	if err := v.backsOff(2); err != nil {
		return err
	}
	return v.scene.Grant(ctx, v.out(), kadm.OpWrite)
}

// changePassword takes the password away and gives it back.
func changePassword(ctx context.Context, v *victim) error {
	if err := v.lockOut(ctx); err != nil {
		return err
	}
	return v.scene.SetPassword(ctx, firstPassword, true)
}

// replacePassword takes the password away and tells the new one.
func replacePassword(ctx context.Context, v *victim) error {
	if err := v.lockOut(ctx); err != nil {
		return err
	}
	return v.scene.SetPassword(ctx, secondPassword, true)
}

// lockOut lets the brokers take another password than the victim has.
func (v *victim) lockOut(ctx context.Context) error {
	if err := v.scene.SetPassword(ctx, secondPassword, false); err != nil {
		return err
	}
	v.reconnect()
	if err := v.suffers(ctx, "SASL_AUTHENTICATION_FAILED", "user or password is wrong"); err != nil {
		return err
	}
	if err := pause(ctx, securityTrouble); err != nil {
		return err
	}
	return v.backsOff(2)
}

func expireCertificates(ctx context.Context, v *victim) error {
	if err := v.scene.SetCertificates(ctx, time.Now().Add(-time.Hour)); err != nil {
		return err
	}
	v.reconnect()
	if err := v.suffers(ctx, "certificate", "expired"); err != nil {
		return err
	}
	if err := pause(ctx, securityTrouble); err != nil {
		return err
	}
	if err := v.backsOff(0); err != nil {
		return err
	}
	return v.scene.SetCertificates(ctx, time.Now().Add(certificateLife))
}

// rotateCertificates costs the victim its connections, and nothing else.
func rotateCertificates(ctx context.Context, v *victim) error {
	if err := v.scene.SetCertificates(ctx, time.Now().Add(certificateLife)); err != nil {
		return err
	}
	v.reconnect()
	if err := v.goesOn(ctx); err != nil {
		return err
	}
	return v.neverRestarted(ctx)
}

// reconnect resets every connection to a secured listener: a login is checked when a connection is made.
func (v *victim) reconnect() {
	for node := range rig.Brokers {
		v.scene.Mesh.Cut(proxy.Edge{From: proxy.Any, To: rig.SecuredName(node)})
	}
}
